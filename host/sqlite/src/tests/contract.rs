//! What statements and transactions do.

use super::*;
use crate::bounds::{BUSY_WAIT_MAX, CONNECTIONS_OF_DATABASE_MAX, TRANSACTION_TIME_MAX};

const GIB: u64 = 1 << 30;

#[test]
fn values_come_back_as_they_were_stored() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let values = [
            DatabaseValue::Null,
            DatabaseValue::Integer(i64::MIN),
            DatabaseValue::Integer(i64::MAX),
            DatabaseValue::Real(-0.5),
            text(""),
            text("a\0b ä 😀"),
            DatabaseValue::Blob(Vec::new()),
            DatabaseValue::Blob((0..=255).collect()),
        ];
        for (count, value) in values.iter().enumerate() {
            let inserted =
                done(answer(&connection, "INSERT INTO t VALUES (?)", std::slice::from_ref(value)).await.outcome);
            let row = i64::try_from(count)? + 1;
            assert_eq!((inserted.changes, inserted.last_insert_rowid), (1, row), "{value:?}");
        }
        let all = done(execute(&connection, "SELECT v, typeof(v) AS kind FROM t ORDER BY rowid").await);
        assert_eq!(all.columns, ["v", "kind"]);
        let found: Vec<_> = all.rows.iter().map(|row| row[0].clone()).collect();
        assert_eq!(found, values);
        assert_eq!(done(execute(&connection, "UPDATE t SET v = 1 WHERE v IS NOT NULL").await).changes, 7);
        assert_eq!((connection.changes(), connection.last_insert_rowid()), (7, 8));
        let returned =
            done(answer(&connection, "INSERT INTO t VALUES (?1) RETURNING v, ?1", &[text("x")]).await.outcome);
        assert_eq!(returned.rows, [[text("x"), text("x")]]);
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 9);
        Ok(())
    })
}

#[test]
fn what_is_wrong_with_a_statement_is_said_and_nothing_is_changed() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL CHECK (v <> 'bad'))").await);
        done(execute(&connection, "CREATE TABLE of_t (t INTEGER REFERENCES t)").await);
        for (sql, said) in [
            ("SELEC 1", "syntax error"),
            ("SELECT * FROM nowhere", "no such table: nowhere"),
            ("INSERT INTO t (v) VALUES ('bad')", "CHECK constraint failed"),
            ("INSERT INTO t (v) VALUES (NULL)", "NOT NULL constraint failed"),
            ("INSERT INTO of_t VALUES (7)", "FOREIGN KEY constraint failed"),
            ("SELECT 1; SELECT 2", "more than one statement"),
            ("", "there is no statement"),
            ("-- nothing", "there is no statement"),
            ("SELECT ?", "has places for 1 parameters, and was given 0"),
            ("COMMIT", "no transaction is active"),
        ] {
            let error = execute(&connection, sql).await.unwrap_err().to_string();
            assert!(error.contains(said), "{sql}: {error}");
        }
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0);
        Ok(())
    })
}

#[test]
fn a_transaction_is_stored_as_a_whole_and_one_that_is_dropped_not_at_all() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let other = databases.connect("app/a");
        done(execute(&other, "CREATE TABLE t (v)").await);
        let count = || execute(&other, "SELECT count(*) FROM t");
        for (end, kept) in [(Some("COMMIT"), 2), (Some("ROLLBACK"), 2), (None, 2)] {
            let connection = databases.connect("app/a");
            for sql in ["BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"] {
                done(execute(&connection, sql).await);
            }
            assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await) % 2, 0);
            if let Some(end) = end {
                done(execute(&connection, end).await);
            }
            drop(connection);
            // Nothing of it is in anybody's way.
            let began = std::time::Instant::now();
            done(execute(&other, "INSERT INTO t VALUES (0)").await);
            assert!(began.elapsed() < TRANSACTION_TIME_MAX / 2, "{end:?}: {:?}", began.elapsed());
            done(execute(&other, "DELETE FROM t WHERE v = 0").await);
            assert_eq!(number(count().await), kept, "{end:?}");
        }
        Ok(())
    })
}

#[test]
fn a_transaction_waits_for_another_and_one_that_is_too_old_is_told_so() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let [one, other] = [(); 2].map(|()| databases.connect("app/a"));
        done(execute(&one, "CREATE TABLE t (v)").await);
        done(execute(&one, "BEGIN IMMEDIATE").await);
        done(execute(&one, "INSERT INTO t VALUES (1)").await);
        // Who reads does not wait, and sees what is stored.
        assert_eq!(number(execute(&other, "SELECT count(*) FROM t").await), 0);
        let waits = execute(&other, "INSERT INTO t VALUES (2)");
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut waits).await.is_err(), "it waits");
        done(execute(&one, "COMMIT").await);
        done(waits.await);
        assert_eq!(number(execute(&one, "SELECT count(*) FROM t").await), 2);
        // What has read an older state cannot write.
        done(execute(&one, "BEGIN").await);
        assert_eq!(number(execute(&one, "SELECT count(*) FROM t").await), 2);
        done(execute(&other, "INSERT INTO t VALUES (3)").await);
        assert_eq!(execute(&one, "INSERT INTO t VALUES (4)").await, Err(DatabaseError::Outdated));
        done(execute(&one, "ROLLBACK").await);
        done(execute(&one, "INSERT INTO t VALUES (4)").await);
        Ok(())
    })
}

#[test]
fn a_transaction_that_nobody_ends_is_rolled_back_in_time_and_its_guest_learns_it() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let [one, other] = [(); 2].map(|()| databases.connect("app/a"));
        done(execute(&one, "CREATE TABLE t (v)").await);
        done(execute(&one, "BEGIN IMMEDIATE").await);
        done(execute(&one, "INSERT INTO t VALUES (1)").await);
        let began = std::time::Instant::now();
        let outcome = execute(&other, "INSERT INTO t VALUES (2)").await;
        let waited = began.elapsed();
        assert!(waited <= TRANSACTION_TIME_MAX.max(BUSY_WAIT_MAX) + Duration::from_secs(2), "{waited:?}");
        // (They end at about the same time.)
        if outcome != Err(DatabaseError::Busy) {
            done(outcome);
        }
        let error = execute(&one, "INSERT INTO t VALUES (3)").await;
        assert_eq!(error, Err(DatabaseError::TransactionOver), "it would be stored by itself");
        assert_eq!(number(execute(&one, "SELECT count(*) FROM t WHERE v <> 2").await), 0);
        done(execute(&one, "INSERT INTO t VALUES (4)").await);
        Ok(())
    })
}

#[test]
fn more_connections_than_sqlite_has_open_are_all_served() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let all: Vec<_> = (0..3 * CONNECTIONS_OF_DATABASE_MAX).map(|_| databases.connect("app/a")).collect();
        done(execute(&all[0], "CREATE TABLE t (v)").await);
        for round in 0..2 {
            for connection in &all {
                done(answer(connection, "INSERT INTO t VALUES (?)", &[DatabaseValue::Integer(round)]).await.outcome);
            }
        }
        let count = i64::try_from(2 * all.len())?;
        assert_eq!(number(execute(&all[1], "SELECT count(*) FROM t").await), count);
        // What is a connection's alone stays, and the others that come are refused when there is no room.
        for connection in &all[..CONNECTIONS_OF_DATABASE_MAX] {
            done(execute(connection, "CREATE TEMP TABLE own (v)").await);
        }
        assert_eq!(execute(&all[CONNECTIONS_OF_DATABASE_MAX], "SELECT 1").await, Err(DatabaseError::Busy));
        done(execute(&all[0], "INSERT INTO own VALUES (1)").await);
        Ok(())
    })
}

#[test]
fn writers_of_all_lines_count_exactly() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let askers = [host.asker().await, host.asker().await];
        done(execute(&askers[0].connect("app/a"), "CREATE TABLE t (n INTEGER)").await);
        done(execute(&askers[0].connect("app/a"), "INSERT INTO t VALUES (0)").await);
        let writers: Vec<_> = (0..32)
            .map(|writer| {
                let connection = askers[writer % 2].connect("app/a");
                tokio::task::spawn_local(async move {
                    for _ in 0..20 {
                        done(execute(&connection, "UPDATE t SET n = n + 1").await);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await?;
        }
        assert_eq!(number(execute(&askers[1].connect("app/a"), "SELECT n FROM t").await), 640);
        Ok(())
    })
}

#[test]
fn the_quota_is_kept_to_and_what_does_not_fit_is_not_stored() -> TestResult {
    run(async {
        let mut host = Host::new(256 << 10).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        let insert = || execute(&connection, "INSERT INTO t VALUES (zeroblob(10000))");
        let mut stored = 0;
        let error = loop {
            match insert().await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, DatabaseError::Full { max: 256 << 10 });
        assert!((15..=26).contains(&stored), "{stored}");
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), stored);
        // Of a transaction, all is gone, and it says so.
        done(execute(&connection, "DELETE FROM t WHERE rowid <= 3").await);
        done(execute(&connection, "BEGIN").await);
        done(execute(&connection, "INSERT INTO t VALUES (zeroblob(10))").await);
        let answer = answer(&connection, "INSERT INTO t VALUES (zeroblob(200000))", &[]).await;
        assert_eq!(answer.outcome, Err(DatabaseError::Full { max: 256 << 10 }));
        if answer.is_rolled_back {
            done(execute(&connection, "BEGIN").await);
        }
        done(execute(&connection, "COMMIT").await);
        // A larger quota counts at once.
        host.grant(&granted(GIB)).await;
        done(execute(&connection, "INSERT INTO t VALUES (zeroblob(500000))").await);
        assert!(number(execute(&connection, "PRAGMA page_count").await) * 4_096 > 256 << 10);
        Ok(())
    })
}

#[test]
fn full_text_trees_json_and_windows_are_there() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        for sql in [
            "CREATE VIRTUAL TABLE notes USING fts5(title, body)",
            "INSERT INTO notes VALUES ('one', 'the quick brown fox')",
            "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
            "INSERT INTO boxes VALUES (1, 0.0, 1.0)",
            "CREATE TABLE t (v, w AS (v * 2) STORED)",
            "CREATE TRIGGER after_t AFTER INSERT ON t BEGIN UPDATE t SET v = v + 1; END",
            "CREATE VIEW seen AS SELECT sum(w) OVER (ORDER BY v) AS s FROM t",
            "INSERT INTO t VALUES (1)",
            "PRAGMA user_version = 7",
            "ANALYZE",
            "REINDEX",
            "ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'x'",
        ] {
            if let Err(error) = execute(&connection, sql).await {
                panic!("{sql}: {error}");
            }
        }
        for (sql, expected) in [
            ("SELECT count(*) FROM notes WHERE notes MATCH 'NEAR(quick fox)'", 1),
            ("SELECT count(*) FROM boxes WHERE x0 <= 0.5 AND x1 >= 0.5", 1),
            ("SELECT json_extract('{\"a\": [1, 2, 42]}', '$.a[2]')", 42),
            ("SELECT s FROM seen", 4),
            ("PRAGMA user_version", 7),
            ("PRAGMA foreign_keys", 1),
            ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 100) SELECT sum(n) FROM c", 5_050),
        ] {
            assert_eq!(number(execute(&connection, sql).await), expected, "{sql}");
        }
        Ok(())
    })
}
