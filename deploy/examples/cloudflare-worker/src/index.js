// A Worker that reads from Postgres: every statement is one fetch to the gateway, so nothing is kept open between
// requests, which a Worker could not do anyway.
import { neon, neonConfig } from '@neondatabase/serverless'

export default {
  async fetch(request, env) {
    neonConfig.fetchEndpoint = env.SQLHTTP_ENDPOINT
    const sql = neon(env.DATABASE_URL)
    const { pathname } = new URL(request.url)
    const found = pathname.match(/^\/customers\/([^/]+)\/orders$/)
    if (!found) return new Response('not found', { status: 404 })
    const customer = decodeURIComponent(found[1])
    const orders = await sql`select id, total::float8, placed::text from orders where customer = ${customer} order by id`
    return Response.json(orders)
  },
}
