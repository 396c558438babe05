// On Vercel and anywhere else Next.js runs; set DATABASE_URL and SQLHTTP_ENDPOINT in the project's environment.
import { neon, neonConfig } from '@neondatabase/serverless'

neonConfig.fetchEndpoint = process.env.SQLHTTP_ENDPOINT
// Next.js caches what fetch returns unless it is told not to, and a statement is a fetch here.
export const sql = neon(process.env.DATABASE_URL, { fetchOptions: { cache: 'no-store' } })
