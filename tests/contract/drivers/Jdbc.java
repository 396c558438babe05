// PostgreSQL's JDBC driver through the TCP door, in the form of `checks.mjs`: a line of JSON for each check, a last one
// with their number. It prepares on the server at the first use, so that names are tried as early as can be.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class Jdbc {
    static int count = 0;
    static final String URL = System.getenv("JDBC_URL");

    static void check(String name, Object want, Callable<Object> work) {
        Object got;
        try {
            got = work.call();
        } catch (Exception error) {
            got = error;
        }
        count += 1;
        boolean ok = String.valueOf(want).equals(String.valueOf(got));
        System.out.println("{\"name\": " + quoted(name) + ", \"ok\": " + ok + ", \"got\": " + quoted(String.valueOf(got))
                + ", \"want\": " + quoted(String.valueOf(want)) + "}");
    }

    static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + "\"";
    }

    static Connection connect(String... more) throws SQLException {
        String url = URL + "&prepareThreshold=1" + String.join("", more);
        return DriverManager.getConnection(url);
    }

    static Object one(Connection connection, String text, Object... params) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int at = 0; at < params.length; at += 1) statement.setObject(at + 1, params[at]);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getObject(1);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        try (Connection setup = connect()) {
            setup.createStatement().execute("create table jdbc_t (n int primary key, s text)");
        }
        check("a prepared statement, again and again", 45, () -> {
            try (Connection connection = connect(); PreparedStatement plus = connection.prepareStatement("select ?::int")) {
                int sum = 0;
                for (int n = 0; n < 10; n += 1) {
                    plus.setInt(1, n);
                    try (ResultSet rows = plus.executeQuery()) {
                        rows.next();
                        sum += rows.getInt(1);
                    }
                }
                return sum;
            }
        });
        check("a transaction with a savepoint", "[1, 3]", () -> {
            try (Connection connection = connect()) {
                connection.setAutoCommit(false);
                connection.createStatement().executeUpdate("insert into jdbc_t values (1, 'one')");
                Savepoint before = connection.setSavepoint();
                connection.createStatement().executeUpdate("insert into jdbc_t values (2, 'two')");
                connection.rollback(before);
                connection.createStatement().executeUpdate("insert into jdbc_t values (3, 'three')");
                connection.commit();
                List<Integer> found = new ArrayList<>();
                ResultSet rows = connection.createStatement().executeQuery("select n from jdbc_t order by n");
                while (rows.next()) found.add(rows.getInt(1));
                connection.rollback();
                return found;
            }
        });
        check("a batch", 100, () -> {
            try (Connection connection = connect();
                    PreparedStatement insert = connection.prepareStatement("insert into jdbc_t values (?, ?)")) {
                for (int n = 100; n < 200; n += 1) {
                    insert.setInt(1, n);
                    insert.setString(2, "row " + n);
                    insert.addBatch();
                }
                return insert.executeBatch().length;
            }
        });
        check("generated keys", 1000, () -> {
            try (Connection connection = connect();
                    PreparedStatement insert = connection.prepareStatement("insert into jdbc_t values (1000, 'x')", new String[] {"n"})) {
                insert.executeUpdate();
                ResultSet keys = insert.getGeneratedKeys();
                keys.next();
                return keys.getInt(1);
            }
        });
        check("rows in portions by a cursor of the server", 10000, () -> {
            try (Connection connection = connect()) {
                connection.setAutoCommit(false);
                try (PreparedStatement all = connection.prepareStatement("select * from generate_series(1, 10000)")) {
                    all.setFetchSize(100);
                    int seen = 0;
                    ResultSet rows = all.executeQuery();
                    while (rows.next()) seen += 1;
                    connection.commit();
                    return seen;
                }
            }
        });
        check("an error, and the connection goes on", "22012 1", () -> {
            try (Connection connection = connect()) {
                try {
                    one(connection, "select 1 / ?::int", 0);
                    return "no error";
                } catch (SQLException error) {
                    return error.getSQLState() + " " + one(connection, "select 1");
                }
            }
        });
        check("COPY in and out", "1000 1000", () -> {
            try (Connection connection = connect()) {
                connection.createStatement().execute("create table jdbc_c (n int)");
                StringBuilder lines = new StringBuilder();
                for (int n = 0; n < 1000; n += 1) lines.append(n).append('\n');
                var copy = connection.unwrap(PGConnection.class).getCopyAPI();
                long in = copy.copyIn("copy jdbc_c from stdin", new StringReader(lines.toString()));
                StringWriter out = new StringWriter();
                copy.copyOut("copy jdbc_c to stdout", out);
                return in + " " + out.toString().lines().count();
            }
        });
        check("LISTEN", "talk hello", () -> {
            try (Connection listener = connect(); Connection speaker = connect()) {
                listener.createStatement().execute("listen talk");
                speaker.createStatement().execute("notify talk, 'hello'");
                PGNotification[] heard = listener.unwrap(PGConnection.class).getNotifications(10000);
                return heard == null || heard.length != 1 ? "nothing" : heard[0].getName() + " " + heard[0].getParameter();
            }
        });
        check("a query that takes too long is cancelled", "57014 1", () -> {
            try (Connection connection = connect(); var slow = connection.createStatement()) {
                slow.setQueryTimeout(1);
                try {
                    slow.execute("select pg_sleep(30)");
                    return "no error";
                } catch (SQLException error) {
                    return error.getSQLState() + " " + one(connection, "select 1");
                }
            }
        });
        check("what the driver knows of the database", "[jdbc_c, jdbc_t]", () -> {
            try (Connection connection = connect()) {
                List<String> names = new ArrayList<>();
                ResultSet tables = connection.getMetaData().getTables(null, "public", "jdbc_%", new String[] {"TABLE"});
                while (tables.next()) names.add(tables.getString("TABLE_NAME"));
                return names;
            }
        });
        check("session settings and read only", "schema on", () -> {
            try (Connection connection = connect("&currentSchema=schema")) {
                connection.setReadOnly(true);
                connection.setAutoCommit(false);
                return one(connection, "select current_setting('search_path') || ' ' || current_setting('transaction_read_only')");
            }
        });
        check("twenty connections over a smaller pool", 20 * 50, () -> {
            ExecutorService threads = Executors.newFixedThreadPool(20);
            List<Future<Integer>> working = new ArrayList<>();
            for (int thread = 0; thread < 20; thread += 1) {
                int mine = thread;
                working.add(threads.submit(() -> {
                    int right = 0;
                    try (Connection connection = connect()) {
                        for (int n = 0; n < 50; n += 1) {
                            Object got = one(connection, "select ?::int * ?::int", mine, n);
                            right += got.equals(mine * n) ? 1 : 0;
                        }
                    }
                    return right;
                }));
            }
            int right = 0;
            for (Future<Integer> work : working) right += work.get();
            threads.shutdown();
            return right;
        });
        System.out.println("{\"finished\": " + count + "}");
    }
}
