#!/usr/bin/python3
"""
application.py
  An application in Python: one row a transaction, and what it does when the
  leader changes.

    application.py CONNINFO TABLE LOG

It writes increasing numbers until SIGTERM, and a log as client.c's writer does:
    A <n> <sent> <acked> <host>        acknowledged
    E <now> <sqlstate> - <message>     any error

transact() is what an application needs.  Its trap: a connection that breaks
during COMMIT leaves open whether that happened.  So the work must not do harm
when it is done a second time; here the number is the primary key, and one that
is there already is left alone.
"""
import signal
import sys
import time

import psycopg2

# The connection is gone or refused, by a server that ends or that does not lead.
TRY_AGAIN = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.errors.ReadOnlySqlTransaction,
)

conninfo, table, log_path = sys.argv[1:4]
connection = None


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def transact(work):
    """Do work(cursor) in a transaction, on whichever server leads."""
    global connection
    while True:
        try:
            if connection is None:
                connection = psycopg2.connect(conninfo)
            work(connection.cursor())
            connection.commit()
            return
        except TRY_AGAIN as error:
            message = (str(error).splitlines() or ["-"])[0]
            log.write(f"E {now()} {error.pgcode or '-----'} - {message}\n")
            if connection is not None:
                connection.close()
                connection = None
            time.sleep(0.02)


log = open(log_path, "a", buffering=1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number = 0
while True:
    number += 1
    sent = now()
    transact(lambda cursor: cursor.execute(
        f"INSERT INTO {table} (n) VALUES (%s) ON CONFLICT DO NOTHING", (number,)))
    log.write(f"A {number} {sent} {now()} {connection.info.host}\n")
    time.sleep(0.002)
