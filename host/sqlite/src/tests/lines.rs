//! Who may ask, and what becomes of questions when the other side is gone, slow, or no process of ours.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::message::{self, DatabaseQuestion};

const GIB: u64 = 1 << 30;

#[test]
fn a_group_reaches_the_databases_of_its_apps_and_a_reload_changes_them() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let (own, others) = (host.asker().await, host.asker_of(Some("g")).await);
        for (asker, database, is_granted) in [
            (&own, "app/a", true),
            (&own, "other/a", false),
            (&own, "app/c", false),
            (&own, "../a", false),
            (&others, "other/a", true),
            (&others, "app/a", false),
        ] {
            let outcome = execute(&asker.connect(database), "CREATE TABLE t (v)").await;
            let refused = Err(DatabaseError::NoSuchDatabase { name: database.to_owned() });
            assert!(if is_granted { outcome.is_ok() } else { outcome == refused }, "{database}: {outcome:?}");
        }
        // A transaction that is open when its grant ends is rolled back.
        let connection = own.connect("app/a");
        done(execute(&connection, "BEGIN").await);
        done(execute(&connection, "INSERT INTO t VALUES (1)").await);
        let mut fewer = granted(GIB);
        fewer.by_group.remove(&None);
        fewer.limits.remove("app/a");
        host.grant(&fewer).await;
        let outcome = execute(&connection, "COMMIT").await;
        assert!(matches!(outcome, Err(DatabaseError::NoSuchDatabase { .. })), "{outcome:?}");
        host.grant(&granted(GIB)).await;
        assert_eq!(execute(&connection, "COMMIT").await, Err(DatabaseError::TransactionOver));
        assert_eq!(number(execute(&connection, "SELECT count(*) FROM t").await), 0, "what is there is there");
        Ok(())
    })
}

#[test]
fn what_was_stored_is_there_when_the_process_is_started_again() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let connection = host.asker().await.connect("app/a");
        done(execute(&connection, "CREATE TABLE t (v)").await);
        done(execute(&connection, "INSERT INTO t VALUES (1)").await);
        done(execute(&connection, "BEGIN").await);
        done(execute(&connection, "INSERT INTO t VALUES (2)").await);
        host.stop();
        host.start().await;
        host.grant(&granted(GIB)).await;
        assert_eq!(execute(&connection, "COMMIT").await, Err(DatabaseError::TransactionOver));
        assert_eq!(number(execute(&connection, "SELECT sum(v) FROM t").await), 1);
        for file in std::fs::read_dir(host.folder.path())?.flatten() {
            assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        Ok(())
    })
}

#[test]
fn who_has_no_databases_is_told_so() -> TestResult {
    run(async {
        let outcome = execute(&Databases::default().connect("app/a"), "SELECT 1").await;
        assert_eq!(outcome, Err(DatabaseError::Unavailable));
        // There is a line, and nobody at its other end.
        let (_ours, theirs) = wire::pair()?;
        let (databases, line) = Databases::new(theirs);
        tokio::task::spawn_local(line.run());
        assert_eq!(execute(&databases.connect("app/a"), "SELECT 1").await, Err(DatabaseError::Unavailable));
        Ok(())
    })
}

#[test]
fn an_answer_that_is_lost_is_unknown() -> TestResult {
    run(async {
        let (ours, theirs) = wire::pair()?;
        let (databases, line) = Databases::new(theirs);
        tokio::task::spawn_local(line.run());
        let (one, other) = pair();
        let asker = Wire::new(ours)?;
        asker.send(&ToAsker::Here, &[(Descriptor::Databases, other.as_fd())]).await?;
        drop(other);
        let mut one = tokio::net::UnixStream::from_std(one)?;
        let connection = databases.connect("app/a");
        let asked = tokio::task::spawn_local(async move { execute(&connection, "COMMIT").await });
        assert!(matches!(message::read(&mut one).await?, Some(DatabaseQuestion::Execute { .. })));
        drop(one);
        assert_eq!(asked.await?, Err(DatabaseError::Unknown));
        Ok(())
    })
}

/// Sends what no process of ours sends. Others go on.
#[test]
fn what_is_no_message_ends_its_line_alone() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let honest = host.asker().await.connect("app/a");
        done(execute(&honest, "CREATE TABLE t (v)").await);
        for bytes in [&[0xff; 64][..], &[4, 0, 0, 0, 9, 9, 9, 9], &[0, 0, 0, 1], &[255, 255, 255, 127, 1]] {
            let (one, other) = pair();
            let line = ToDatabases::Line(None);
            host.line().send(&line, &[(Descriptor::Databases, OwnedFd::from(one).as_fd())]).await?;
            let mut other = other;
            other.write_all(bytes)?;
            drop(other);
        }
        done(execute(&honest, "INSERT INTO t VALUES (1)").await);
        Ok(())
    })
}

#[test]
fn more_than_a_line_may_ask_at_once_is_refused_and_the_rest_is_done() -> TestResult {
    run(async {
        let mut host = Host::new(GIB).await;
        let databases = host.asker().await;
        let holder = databases.connect("app/a");
        done(execute(&holder, "CREATE TABLE t (v)").await);
        done(execute(&holder, "BEGIN IMMEDIATE").await);
        // Ninety MB of parameters that wait for the transaction.
        let value = DatabaseValue::Blob(vec![7; 1_000_000]);
        let waiting: Vec<_> = (0..90)
            .map(|_| {
                let (connection, value) = (databases.connect("app/a"), value.clone());
                tokio::task::spawn_local(async move {
                    answer(&connection, "INSERT INTO t VALUES (?)", &[value]).await.outcome
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // What the others wait for is done.
        done(execute(&holder, "COMMIT").await);
        let (mut stored, mut refused) = (0, 0);
        for one in waiting {
            match one.await? {
                Ok(_) => stored += 1,
                Err(DatabaseError::Busy) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0 && stored >= 1, "{stored} stored, {refused} refused");
        assert_eq!(number(execute(&holder, "SELECT count(*) FROM t").await), stored);
        Ok(())
    })
}
