//! The contract: the same tests over every backend.

use wasmhost_storage::{Edit, KEYS_PER_OPERATION_MAX, OPERATION_BYTES_MAX, StoreError, StoreQuota, StoreUsage};

use crate::{Clients, ROOMY, World};

/// A test for each backend.
macro_rules! contract {
    ($($name:ident)*) => {
        mod embedded { $(#[test] fn $name() { crate::run(async { super::$name(crate::embedded().await).await }); })* }
        mod line { $(#[test] fn $name() { crate::run(async { super::$name(crate::line().await).await }); })* }
        mod redis {$(
            #[test]
            fn $name() {
                crate::run(async {
                    let Some(world) = crate::redis().await else { return };
                    super::$name(world).await;
                });
            }
        )*}
    };
}

contract! {
    values_are_read_as_they_were_written
    versions_grow_and_never_come_again
    edits_are_done_all_or_none
    keys_and_values_have_a_largest_size
    a_full_store_refuses_and_has_changed_nothing
    a_store_above_its_quota_may_shrink
    what_has_expired_is_not_there
    what_has_expired_is_removed_and_stops_counting
    expired_entries_make_room_for_a_write
    keys_are_listed_page_by_page
    keys_that_stay_are_listed_once_while_others_come_and_go
    numbers_are_incremented
    a_swap_needs_the_version_that_was_read
    stores_are_apart_and_only_granted_ones_answer
    large_values_pass
    increments_of_many_clients_are_all_counted
}

fn set(key: &str, value: &[u8]) -> Edit {
    Edit::Set { key: key.to_owned(), value: value.to_vec(), ttl_ms: None }
}

fn set_for(key: &str, value: &[u8], ttl_ms: u64) -> Edit {
    Edit::Set { key: key.to_owned(), value: value.to_vec(), ttl_ms: Some(ttl_ms) }
}

fn delete(key: &str) -> Edit {
    Edit::Delete { key: key.to_owned() }
}

async fn value<S: Clients>(stores: &S, store: &str, key: &str) -> Option<Vec<u8>> {
    stores.get(store, key).await.expect("an answer").map(|stored| stored.value)
}

async fn values_are_read_as_they_were_written<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    assert_eq!(stores.get("a", "k").await, Ok(None));
    assert_eq!(stores.exists("a", "k").await, Ok(false));
    stores.set("a", "k", b"one").await.unwrap();
    stores.set("a", "", b"").await.unwrap();
    stores.set("a", "k\0ü", &[0, 255, 0]).await.unwrap();
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"one"[..]));
    assert_eq!(value(stores, "a", "").await.as_deref(), Some(&b""[..]), "an empty value is there");
    assert_eq!(stores.exists("a", "").await, Ok(true));
    assert_eq!(value(stores, "a", "k\0ü").await, Some(vec![0, 255, 0]));
    stores.set("a", "k", b"two").await.unwrap();
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"two"[..]));
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 3, bytes: 4 + 7 }));
    stores.delete("a", "k").await.unwrap();
    stores.delete("a", "k").await.expect("what is not there may be deleted");
    assert_eq!(value(stores, "a", "k").await, None);
    assert_eq!(stores.exists("a", "k").await, Ok(false));
    let keys = ["", "k", "k\0ü", ""].map(str::to_owned).to_vec();
    let many: Vec<_> = stores.get_many("a", keys).await.unwrap().into_iter().map(|it| it.map(|it| it.value)).collect();
    assert_eq!(many, [Some(vec![]), None, Some(vec![0, 255, 0]), Some(vec![])]);
    assert_eq!(stores.get_many("a", vec![]).await, Ok(vec![]));
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 2, bytes: 7 }));
}

async fn versions_grow_and_never_come_again<S: Clients>(world: World<S, S::Owner>) {
    let (stores, mut last) = (&world.stores, 0);
    for round in 0..3 {
        stores.set("a", "k", b"same").await.unwrap();
        stores.set("a", "other", b"same").await.unwrap();
        for key in ["k", "other"] {
            let version = stores.get("a", key).await.unwrap().expect("a value").version;
            assert!(version > last, "round {round}: {version} after {last}");
            last = version;
        }
        stores.write("a", vec![delete("k"), delete("other")]).await.unwrap();
    }
}

async fn edits_are_done_all_or_none<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    world.grant(&[("a", StoreQuota { keys_max: 2, ..ROOMY })]).await;
    stores.write("a", vec![set("k", b"1"), set("l", b"1")]).await.unwrap();
    let refused = stores.write("a", vec![set("k", b"2"), delete("l"), set("m", b"2"), set("n", b"2")]).await;
    assert_eq!(refused, Err(StoreError::KeysFull { max: 2 }));
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(value(stores, "a", "l").await.as_deref(), Some(&b"1"[..]));
    // Room that one edit makes is room for another, whatever comes first.
    stores.write("a", vec![set("m", b"2"), delete("l")]).await.unwrap();
    assert_eq!(value(stores, "a", "m").await.as_deref(), Some(&b"2"[..]));
    // The last edit of a key counts.
    stores.write("a", vec![set("m", b"3"), delete("m"), set("m", b"4"), set("k", b"4"), delete("k")]).await.unwrap();
    assert_eq!(value(stores, "a", "m").await.as_deref(), Some(&b"4"[..]));
    assert_eq!(value(stores, "a", "k").await, None);
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 1, bytes: 2 }));
    stores.write("a", vec![]).await.unwrap();
}

async fn keys_and_values_have_a_largest_size<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    world.grant(&[("a", StoreQuota { key_bytes_max: 4, value_bytes_max: 6, ..ROOMY })]).await;
    stores.set("a", "1234", b"123456").await.unwrap();
    assert_eq!(stores.set("a", "12345", b"").await, Err(StoreError::KeyTooLong { bytes: 5, max: 4 }));
    assert_eq!(stores.get("a", "12345").await, Err(StoreError::KeyTooLong { bytes: 5, max: 4 }));
    assert_eq!(stores.delete("a", "12345").await, Err(StoreError::KeyTooLong { bytes: 5, max: 4 }));
    assert_eq!(stores.increment("a", "12345", 1).await, Err(StoreError::KeyTooLong { bytes: 5, max: 4 }));
    assert_eq!(stores.set("a", "k", b"1234567").await, Err(StoreError::ValueTooLarge { bytes: 7, max: 6 }));
    let swapped = stores.swap("a", None, set("k", b"1234567")).await;
    assert_eq!(swapped, Err(StoreError::ValueTooLarge { bytes: 7, max: 6 }));
    let too_many = vec![delete("k"); KEYS_PER_OPERATION_MAX + 1];
    let refused = StoreError::TooManyKeys { keys: too_many.len(), max: KEYS_PER_OPERATION_MAX };
    assert_eq!(stores.write("a", too_many).await, Err(refused));
    // No quota allows more than what all stores are bound to.
    let unbounded = StoreQuota { key_bytes_max: usize::MAX, value_bytes_max: usize::MAX, ..ROOMY };
    world.grant(&[("a", unbounded)]).await;
    assert_eq!(stores.get("a", &"k".repeat(1_025)).await, Err(StoreError::KeyTooLong { bytes: 1_025, max: 1_024 }));
    let large = vec![b'v'; 3 << 20];
    let edits = ["k", "l", "m"].map(|key| set(key, &large)).to_vec();
    assert_eq!(
        stores.write("a", edits).await,
        Err(StoreError::TooLarge { bytes: 3 + (9 << 20), max: OPERATION_BYTES_MAX })
    );
    for key in ["k", "l", "m"] {
        stores.set("a", key, &large).await.unwrap();
    }
    let all = stores.get_many("a", ["k", "l", "m"].map(str::to_owned).to_vec()).await;
    assert_eq!(all, Err(StoreError::TooLarge { bytes: 9 << 20, max: OPERATION_BYTES_MAX }));
}

async fn a_full_store_refuses_and_has_changed_nothing<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    world.grant(&[("a", StoreQuota { keys_max: 3, bytes_max: 20, ..ROOMY }), ("b", ROOMY)]).await;
    stores.write("a", vec![set("k", b"123456789"), set("l", b"12345678")]).await.unwrap();
    let full = StoreUsage { keys: 2, bytes: 19 };
    assert_eq!(stores.usage("a").await, Ok(full));
    assert_eq!(stores.set("a", "m", b"1").await, Err(StoreError::BytesFull { bytes: 21, max: 20 }));
    assert_eq!(stores.set("a", "k", b"12345678901").await, Err(StoreError::BytesFull { bytes: 21, max: 20 }));
    assert_eq!(stores.increment("a", "m", 1).await, Err(StoreError::BytesFull { bytes: 21, max: 20 }));
    assert_eq!(stores.swap("a", None, set("m", b"1")).await, Err(StoreError::BytesFull { bytes: 21, max: 20 }));
    assert_eq!(stores.usage("a").await, Ok(full));
    assert_eq!(stores.list("a", "", None, 10).await.unwrap().keys, ["k", "l"]);
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"123456789"[..]));
    stores.set("a", "k", b"1234567890").await.expect("one byte more is just what is left");
    stores.set("a", "k", b"").await.unwrap();
    stores.set("a", "m", b"").await.unwrap();
    assert_eq!(stores.set("a", "n", b"").await, Err(StoreError::KeysFull { max: 3 }));
    stores.set("a", "m", b"12345").await.expect("no further key");
    stores.delete("a", "l").await.unwrap();
    stores.set("a", "n", b"").await.unwrap();
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 3, bytes: 8 }));
    stores.set("b", "other", b"of another store").await.unwrap();
}

async fn a_store_above_its_quota_may_shrink<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    stores.write("a", ["k", "l", "m"].map(|key| set(key, b"12345")).to_vec()).await.unwrap();
    world.grant(&[("a", StoreQuota { keys_max: 1, bytes_max: 3, ..ROOMY })]).await;
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"12345"[..]));
    assert_eq!(stores.set("a", "k", b"123456").await, Err(StoreError::BytesFull { bytes: 19, max: 3 }));
    stores.set("a", "k", b"12345").await.expect("no larger");
    stores.set("a", "k", b"1").await.expect("smaller");
    assert_eq!(stores.set("a", "n", b"").await, Err(StoreError::KeysFull { max: 1 }));
    stores.delete("a", "l").await.unwrap();
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 2, bytes: 8 }));
}

async fn what_has_expired_is_not_there<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let edits =
        vec![set_for("k", b"1", 100), set_for("number", b"7", 100), set("stays", b"1"), set_for("now", b"1", 0)];
    stores.write("a", edits).await.unwrap();
    assert_eq!(value(stores, "a", "now").await, None);
    world.pass(99);
    let found = stores.get("a", "k").await.unwrap().expect("a value");
    assert_eq!(found.expires_at, Some(1_000_100));
    assert_eq!(stores.increment("a", "number", 1).await, Ok(8), "its expiry stays");
    stores.set("a", "again", b"1").await.unwrap();
    stores.write("a", vec![set_for("again", b"2", 50), set_for("for ever", b"1", u64::MAX)]).await.unwrap();
    world.pass(1);
    for key in ["k", "number"] {
        assert_eq!(stores.get("a", key).await, Ok(None), "{key}");
        assert_eq!(stores.exists("a", key).await, Ok(false), "{key}");
    }
    assert_eq!(stores.list("a", "", None, 10).await.unwrap().keys, ["again", "for ever", "stays"]);
    assert_eq!(stores.swap("a", Some(found.version), set("k", b"2")).await, Ok(false), "the version has expired too");
    assert_eq!(stores.swap("a", None, set("k", b"2")).await, Ok(true));
    assert_eq!(stores.increment("a", "number", 1).await, Ok(1), "it begins anew, and for ever");
    stores.write("a", vec![set("again", b"3")]).await.expect("an earlier expiry is forgotten");
    world.pass(1_000_000);
    assert_eq!(stores.list("a", "", None, 10).await.unwrap().keys, ["again", "for ever", "k", "number", "stays"]);
}

async fn what_has_expired_is_removed_and_stops_counting<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let edits = (0..900).map(|number| set_for(&format!("{number:03}"), b"12345", 10)).collect();
    stores.write("a", edits).await.unwrap();
    stores.write("b", vec![set_for("k", b"12345", 10), set_for("later", b"1", 1_000), set("l", b"1")]).await.unwrap();
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 900, bytes: 900 * 8 }));
    world.pass(10);
    let ceiling = std::time::Instant::now() + crate::PATIENCE;
    while stores.usage("a").await.unwrap().keys != 0 || stores.usage("b").await.unwrap().keys != 2 {
        assert!(std::time::Instant::now() < ceiling, "the sweep does not come");
        stores.set("b", "l", b"2").await.unwrap();
    }
    assert_eq!(stores.usage("a").await, Ok(StoreUsage::default()));
    assert_eq!(stores.usage("b").await, Ok(StoreUsage { keys: 2, bytes: 8 }));
    assert_eq!(stores.list("b", "", None, 10).await.unwrap().keys, ["l", "later"]);
    // Also what expired while nobody might ask its store.
    stores.write("a", vec![set_for("k", b"1", 10)]).await.unwrap();
    world.grant(&[("b", ROOMY)]).await;
    world.pass(10);
    for _ in 0..3 {
        stores.set("b", "l", b"3").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
    }
    world.grant(&[("a", ROOMY), ("b", ROOMY)]).await;
    while stores.usage("a").await.unwrap().keys != 0 {
        assert!(std::time::Instant::now() < ceiling, "the sweep does not come");
        stores.set("b", "l", b"4").await.unwrap();
    }
}

async fn expired_entries_make_room_for_a_write<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    world.grant(&[("a", StoreQuota { keys_max: 700, bytes_max: 10_000, ..ROOMY })]).await;
    let edits = (0..600).map(|number| set_for(&format!("{number:03}"), b"12345", 10)).collect();
    stores.write("a", edits).await.unwrap();
    stores.set("a", "stays", b"12345").await.unwrap();
    assert_eq!(stores.set("a", "large", &[0; 9_000]).await, Err(StoreError::BytesFull { bytes: 13_815, max: 10_000 }));
    world.pass(10);
    stores.set("a", "large", &[0; 9_000]).await.expect("room that is made at once");
    assert_eq!(stores.set("a", "more", &[0; 9_000]).await, Err(StoreError::BytesFull { bytes: 18_019, max: 10_000 }));
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 2, bytes: 10 + 9_005 }), "all of them were removed");
}

async fn keys_are_listed_page_by_page<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let listing = stores.list("a", "", None, 10).await.unwrap();
    assert!(listing.keys.is_empty() && listing.next.is_none());
    for round in 0..3 {
        let edits = (0..700).map(|number| set(&format!("k{:04}", round * 700 + number), b"")).collect();
        stores.write("a", edits).await.unwrap();
    }
    stores.write("a", vec![set("j", b""), set("l", b""), set_for("k0003", b"", 0)]).await.unwrap();
    stores.set("b", "k", b"").await.unwrap();
    let first = stores.list("a", "", None, 2).await.unwrap();
    assert_eq!((first.keys, first.next), (vec!["j".to_owned(), "k0000".to_owned()], Some("k0000".to_owned())));
    let none = stores.list("a", "", None, 0).await.unwrap();
    assert_eq!(none.keys, ["j"], "there is no page without keys");
    assert_eq!(stores.list("a", "k", None, usize::MAX).await.unwrap().keys.len(), 1_000, "a page is bounded");
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = stores.list("a", "k", after, 999).await.unwrap();
        all.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> =
        (0..2_100).filter(|number| *number != 3).map(|number| format!("k{number:04}")).collect();
    assert_eq!(all, expected);
    assert_eq!(stores.list("a", "l", None, 1).await.unwrap().next, None, "it knows that nothing follows");
    assert_eq!(stores.list("a", "k", Some("a".into()), 1).await.unwrap().keys, ["k0000"], "before the prefix");
    assert_eq!(stores.list("a", "k", Some("z".into()), 1).await.unwrap().keys.len(), 0, "behind the prefix");
    assert_eq!(stores.list("b", "", None, 10).await.unwrap().keys, ["k"]);
}

async fn keys_that_stay_are_listed_once_while_others_come_and_go<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let stay: Vec<String> = (0..50).map(|number| format!("{number:02}-stays")).collect();
    stores.write("a", stay.iter().map(|key| set(key, b"")).collect()).await.unwrap();
    stores.write("a", (0..50).map(|number| set(&format!("{number:02}-goes"), b"")).collect()).await.unwrap();
    let (mut listed, mut after, mut page) = (Vec::new(), None, 0);
    loop {
        let listing = stores.list("a", "", after, 7).await.unwrap();
        listed.extend(listing.keys);
        let Some(next) = listing.next else { break };
        // The key that the page ended with goes as well, and others come on both sides of it.
        let mut edits = vec![set(&format!("{page:02}-new"), b""), set(&format!("{}-new", 99 - page), b"")];
        edits.extend((!next.ends_with("-stays")).then(|| delete(&next)));
        edits.extend((0..3).map(|more| delete(&format!("{:02}-goes", (page * 3 + more) % 50))));
        stores.write("a", edits).await.unwrap();
        (after, page) = (Some(next), page + 1);
        assert!(page < 60, "it comes to an end");
    }
    assert!(listed.is_sorted(), "{listed:?}");
    let stayed: Vec<&String> = listed.iter().filter(|key| key.ends_with("-stays")).collect();
    assert_eq!(stayed, stay.iter().collect::<Vec<_>>());
}

async fn numbers_are_incremented<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    assert_eq!(stores.increment("a", "n", 3).await, Ok(3));
    assert_eq!(stores.increment("a", "n", -5).await, Ok(-2));
    assert_eq!(value(stores, "a", "n").await.as_deref(), Some(&b"-2"[..]), "in decimal text");
    assert_eq!(stores.increment("a", "n", 0).await, Ok(-2));
    assert_eq!(stores.usage("a").await, Ok(StoreUsage { keys: 1, bytes: 3 }));
    stores.set("a", "n", b"9223372036854775806").await.unwrap();
    assert_eq!(stores.increment("a", "n", 1).await, Ok(i64::MAX));
    assert_eq!(stores.increment("a", "n", 1).await, Err(StoreError::Overflow));
    assert_eq!(value(stores, "a", "n").await.as_deref(), Some(&b"9223372036854775807"[..]));
    stores.set("a", "n", b"-9223372036854775808").await.unwrap();
    assert_eq!(stores.increment("a", "n", -1).await, Err(StoreError::Overflow));
    for text in ["", " 1", "1 ", "+1", "01", "-0", "1.0", "1e3", "9223372036854775808", "one", "\u{1}"] {
        stores.set("a", "n", text.as_bytes()).await.unwrap();
        assert_eq!(stores.increment("a", "n", 1).await, Err(StoreError::NotANumber), "{text:?}");
        assert_eq!(value(stores, "a", "n").await.as_deref(), Some(text.as_bytes()));
    }
}

async fn a_swap_needs_the_version_that_was_read<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let version = async || stores.get("a", "k").await.unwrap().map(|stored| stored.version);
    assert_eq!(stores.swap("a", Some(1), set("k", b"1")).await, Ok(false));
    assert_eq!(stores.exists("a", "k").await, Ok(false));
    assert_eq!(stores.swap("a", None, set("k", b"1")).await, Ok(true));
    assert_eq!(stores.swap("a", None, set("k", b"2")).await, Ok(false));
    let first = version().await;
    assert_eq!(stores.swap("a", first, set("k", b"2")).await, Ok(true));
    assert_eq!(stores.swap("a", first, set("k", b"3")).await, Ok(false));
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"2"[..]));
    // The same value once more is another writing.
    let second = version().await;
    stores.delete("a", "k").await.unwrap();
    stores.set("a", "k", b"2").await.unwrap();
    assert_eq!(stores.swap("a", second, set("k", b"3")).await, Ok(false));
    assert_eq!(stores.swap("a", version().await, delete("k")).await, Ok(true));
    assert_eq!(stores.exists("a", "k").await, Ok(false));
    assert_eq!(stores.swap("a", None, delete("k")).await, Ok(true));
    assert_eq!(stores.usage("a").await, Ok(StoreUsage::default()));
}

async fn stores_are_apart_and_only_granted_ones_answer<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    stores.set("a", "k", b"of a").await.unwrap();
    stores.set("b", "k", b"of b").await.unwrap();
    stores.delete("b", "k").await.unwrap();
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"of a"[..]));
    for name in ["c", "", "A", &"long".repeat(100_000)] {
        let missing = StoreError::NoSuchStore { name: name.to_owned() };
        assert_eq!(stores.get(name, "k").await, Err(missing.clone()));
        assert_eq!(stores.set(name, "k", b"").await, Err(missing.clone()));
        assert_eq!(stores.increment(name, "k", 1).await, Err(missing.clone()));
        assert_eq!(stores.list(name, "", None, 1).await, Err(missing));
    }
    world.grant(&[("c", ROOMY), ("b", ROOMY)]).await;
    assert_eq!(stores.get("a", "k").await, Err(StoreError::NoSuchStore { name: "a".to_owned() }));
    assert_eq!(stores.get("c", "k").await, Ok(None));
    stores.set("c", "k", b"of c").await.unwrap();
    world.grant(&[("a", ROOMY)]).await;
    assert_eq!(value(stores, "a", "k").await.as_deref(), Some(&b"of a"[..]), "what it held has stayed");
}

async fn large_values_pass<S: Clients>(world: World<S, S::Owner>) {
    let stores = &world.stores;
    let large: Vec<u8> = (0..4_u32 << 20).map(|number| (number % 251) as u8).collect();
    let edits: Vec<_> = (0..1_000).map(|number| set(&format!("{number:01024}"), &[b'v'; 1_000])).collect();
    let (one, many) = tokio::join!(stores.set("a", "large", &large), stores.write("a", edits));
    one.unwrap();
    many.unwrap();
    assert_eq!(value(stores, "a", "large").await.as_ref(), Some(&large));
    // More in sum than may wait at once: what was answered does not count any more.
    for _ in 0..20 {
        stores.set("a", "large", &large).await.unwrap();
    }
    let page = stores.list("a", "0", None, 1_000).await.unwrap();
    assert_eq!((page.keys.len(), page.next), (1_000, None));
    assert!(stores.get_many("a", page.keys).await.unwrap().into_iter().all(|found| found.is_some()));
}

async fn increments_of_many_clients_are_all_counted<S: Clients>(world: World<S, S::Owner>) {
    const CLIENTS: usize = 64;
    const IN_ALL: usize = 100_000;
    let (mut tasks, left) = (Vec::new(), std::rc::Rc::new(std::cell::Cell::new(IN_ALL)));
    for client in S::clients(&world, CLIENTS) {
        let left = std::rc::Rc::clone(&left);
        tasks.push(tokio::task::spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                client.increment("a", "n", 1).await.expect("an increment");
            }
        }));
    }
    for task in tasks {
        task.await.expect("a client");
    }
    assert_eq!(value(&world.stores, "a", "n").await, Some(IN_ALL.to_string().into_bytes()));
}
