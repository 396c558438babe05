"""Every setting of PgBouncer (to 1.26) and what becomes of it here.

That is a setting of ours, a part of a connection string, or what is done instead. Tables only:
`check.pgbouncer_ini` reads a file with them.
"""

NUMBERS = {
    "default_pool_size": "pool.max_size",
    "min_pool_size": "pool.min_size",
    "server_idle_timeout": "pool.idle_timeout",
    "server_lifetime": "pool.max_lifetime",
    "server_connect_timeout": "pool.connect_timeout",
    "query_timeout": "statement.timeout",
    "query_wait_timeout": "pool.wait_timeout",
    "max_client_conn": "pool.max_waiting",
    "max_prepared_statements": "pool.statement_cache_size",
    "listen_backlog": "listen.backlog",
    "listen_port": "listen.postgres",
    "client_idle_timeout": "tunnel.client_idle_timeout",
    "client_login_timeout": "tunnel.startup_timeout",
    "idle_transaction_timeout": "tunnel.idle_in_transaction_timeout",
    "transaction_timeout": "tunnel.transaction_timeout",
}
"""PgBouncer's names of numbers that mean the same here."""
ZERO_IS_NONE = frozenset(
    {
        "query_wait_timeout",
        "server_idle_timeout",
        "server_lifetime",
        "server_connect_timeout",
        "max_client_conn",
        "client_login_timeout",
    }
)
"""What 0 switches off there, and cannot be 0 here."""
WORDS = {
    "unix_socket_dir": "listen.postgres_socket_directory",
    "unix_socket_mode": "listen.unix_socket_mode",
}
"""The same for texts."""
CERTIFICATE = {"client_tls_cert_file": "listen.tls_certificate", "client_tls_key_file": "listen.tls_key"}
"""The same for what client_tls_sslmode switches on."""
DEFAULTS = {"default_pool_size": 20, "query_wait_timeout": 120, "server_idle_timeout": 600, "max_client_conn": 100}
"""PgBouncer's, where ours differ enough to be noticed."""

_BUILT_IN = "the gateway scrubs a connection itself before it is lent again"
_TLS_OURS = "TLS 1.2 and newer with Python's own choice of ciphers; programs prove a password"
_LOG = "see the section log: the gateway writes to stderr, one line a request at most"
_SYSTEM = "left to the operating system's defaults"
ONE_PASSWORD = "a caller's password is checked by Postgres's own rules"
WITHOUT = {
    "pool_mode": "",  # has words of its own
    "auth_type": "",
    "auth_file": f"not needed: {ONE_PASSWORD}; a password changed in Postgres is changed here",
    "auth_hba_file": "put address rules into pg_hba.conf or in front of the gateway",
    "auth_query": "auth.verify_by = verifier does the same, if the gateway's role may read pg_authid",
    "auth_user": "the role of the connection string is the gateway's own",
    "auth_dbname": "the database of the connection string is used",
    "auth_ident_file": "only passwords are known",
    "auth_ldap_options": "only passwords are known",
    "auth_pam_confdir": "only passwords are known",
    "scram_iterations": "Postgres's own verifiers are used, with as many as they were made with",
    "reserve_pool_size": "there is no reserve: raise pool.max_size",
    "reserve_pool_timeout": "there is no reserve",
    "max_db_connections": "",
    "max_user_connections": "",
    "max_db_client_connections": "see pool.max_waiting, for each pool",
    "max_user_client_connections": "see pool.max_waiting, for each pool",
    "server_reset_query": _BUILT_IN,
    "server_reset_query_always": _BUILT_IN,
    "server_check_query": "a lost connection is noticed at once, and a request that did not begin on it is repeated",
    "server_check_delay": "as for server_check_query",
    "server_fast_close": "connections that are in use are never cut",
    "server_round_robin": "the connection used last is used next",
    "server_login_retry": "the next request tries again",
    "track_extra_parameters": _BUILT_IN,
    "ignore_startup_parameters": "parameters that Postgres does not know are refused by Postgres",
    "disable_pqexec": "a request over HTTP is one statement of the extended protocol; listen.postgres takes both",
    "application_name_add_host": "application_name may be given in the connection string",
    "cancel_wait_timeout": "see statement.cancel_timeout",
    "suspend_timeout": "see drain.grace",
    "pool_idle_timeout": "pools that are not used are dropped after pool.idle_timeout",
    "autodb_idle_timeout": "pools that are not used are dropped after pool.idle_timeout",
    "query_wait_notify": "nobody is told while it waits; sqlhttp_pool_waiting says how many do",
    "login_notify_message": "not known here",
    "admin_users": "",
    "stats_users": "the console is for admin.roles alone; /status and /metrics are for admin.allow_from",
    "stats_period": "/metrics is always up to date",
    "listen_addr": "",
    "client_tls_sslmode": "",
    "unix_socket_group": "its sockets have the group of the process; see listen.unix_socket_mode",
    "so_reuseport": "listen.workers shares the port over several processes",
    "peer_id": "a cancel needs no peers: it goes the way of its request",
    "pidfile": "the service manager knows the process",
    "user": "start it as the user that it shall be",
    "conffile": "sqlhttp serve --config FILE",
    "service_name": "not needed",
    "job_name": "not needed",
    "resolv_conf": _SYSTEM,
    "dns_max_ttl": _SYSTEM,
    "dns_nxdomain_ttl": _SYSTEM,
    "dns_zone_check_period": _SYSTEM,
    "pkt_buf": "not needed",
    "sbuf_loopcnt": "not needed",
    "max_packet_size": "see request.max_bytes and response.max_bytes",
    "server_tls_protocols": _SYSTEM,
    "server_tls_ciphers": _SYSTEM,
    "server_tls13_ciphers": _SYSTEM,
    **dict.fromkeys(
        (
            "client_tls_ca_file",
            "client_tls_protocols",
            "client_tls_ciphers",
            "client_tls13_ciphers",
            "client_tls_ecdhcurve",
            "client_tls_dheparams",
        ),
        _TLS_OURS,
    ),
    **dict.fromkeys(
        (
            "logfile",
            "syslog",
            "syslog_ident",
            "syslog_facility",
            "log_connections",
            "log_disconnections",
            "log_pooler_errors",
            "log_stats",
            "verbose",
        ),
        _LOG,
    ),
    **dict.fromkeys(
        (
            "tcp_defer_accept",
            "tcp_socket_buffer",
            "tcp_keepalive",
            "tcp_keepcnt",
            "tcp_keepidle",
            "tcp_keepintvl",
            "tcp_user_timeout",
        ),
        _SYSTEM,
    ),
}
"""What has no setting here, and what is done instead; empty where `check.pgbouncer_ini` says it."""
IN_CONNECTION_STRING = {
    "server_tls_sslmode": "sslmode",
    "server_tls_ca_file": "sslrootcert",
    "server_tls_cert_file": "sslcert",
    "server_tls_key_file": "sslkey",
}
"""What becomes a parameter of the connection strings."""
MODES = {
    "transaction": "as here: a request over HTTP is one transaction, and listen.postgres has tunnel.pool_mode",
    "session": "tunnel.pool_mode, for listen.postgres and WebSockets; a request over HTTP is one transaction always",
    "statement": "no counterpart; with tunnel.pool_mode = transaction a transaction may have several statements",
}
"""What the pool modes mean here."""
KNOWN_MODES = frozenset({"transaction", "session"})
"""Those that are a value of tunnel.pool_mode."""
