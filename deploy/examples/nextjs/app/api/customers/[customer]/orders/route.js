import { sql } from '../../../../../lib/db.js'

export const dynamic = 'force-dynamic'

export async function GET(request, { params }) {
  const { customer } = await params
  return Response.json(await sql`select id, total::float8, placed::text from orders where customer = ${customer} order by id`)
}

// An order and its items succeed or fail together: one request, one transaction.
export async function POST(request, { params }) {
  const { customer } = await params
  const { total, note } = await request.json()
  const [[order]] = await sql.transaction([
    sql`insert into orders (customer, total) values (${customer}, ${total}) returning id`,
    sql`insert into notes (customer, body) values (${customer}, ${note})`,
  ])
  return Response.json(order, { status: 201 })
}
