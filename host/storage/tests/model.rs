//! Any sequence of operations gives what a plain map would give. `WASMHOST_STORAGE_CASES` says how many sequences are tried.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wasmhost_storage::{Edit, KeyValue, Listing, Operation, Reply, StoreError, StoreQuota, StoreUsage};

use crate::{Clients, ROOMY, World};

const QUOTA: StoreQuota =
    StoreQuota { keys_max: 6, bytes_max: 60, key_bytes_max: 3, value_bytes_max: 20, ttl_ms: None };

/// A step: time passes, or something is asked. Versions are those that the model has for a key, if `right`.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Ask(Operation),
    Swap { right: bool, edit: Edit },
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[ab]{0,2}", 1 => "[ab]{3,4}"]
}

fn edits() -> impl Strategy<Value = Edit> {
    let value = prop_oneof![3 => "[0-9]{0,3}", 2 => "v{0,20}", 1 => "v{19,22}"].prop_map(String::into_bytes);
    prop_oneof![
        3 => (keys(), value, proptest::option::of(0_u64..40)).prop_map(|(key, value, ttl_ms)| Edit::Set { key, value, ttl_ms }),
        1 => keys().prop_map(|key| Edit::Delete { key }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_u64..30).prop_map(Step::Pass),
        4 => proptest::collection::vec(edits(), 0..4).prop_map(|edits| Step::Ask(Operation::Write { edits })),
        2 => (keys(), -50_i64..50).prop_map(|(key, by)| Step::Ask(Operation::Increment { key, by })),
        2 => (any::<bool>(), edits()).prop_map(|(right, edit)| Step::Swap { right, edit }),
        1 => proptest::collection::vec(keys(), 0..4).prop_map(|keys| Step::Ask(Operation::Get { keys })),
        1 => keys().prop_map(|key| Step::Ask(Operation::Exists { key })),
        2 => ("[ab]{0,1}", proptest::option::of(keys()), 1_usize..4)
            .prop_map(|(prefix, after, limit)| Step::Ask(Operation::List { prefix, after, limit })),
    ]
}

/// Values with their expiries.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<String, (Vec<u8>, Option<u64>)>);

impl Model {
    fn usage(&self) -> StoreUsage {
        let bytes = self.0.iter().map(|(key, (value, _))| (key.len() + value.len()) as u64).sum();
        StoreUsage { keys: self.0.len() as u64, bytes }
    }

    fn edit(&mut self, edits: &[Edit], now: u64) -> Result<(), StoreError> {
        let mut then = self.clone();
        for edit in edits {
            match edit {
                Edit::Set { key, value, ttl_ms } => {
                    then.0.insert(key.clone(), (value.clone(), ttl_ms.map(|ttl| now + ttl)));
                }
                Edit::Delete { key } => {
                    then.0.remove(key);
                }
            }
        }
        let (before, after) = (self.usage(), then.usage());
        if after.keys > QUOTA.keys_max && after.keys > before.keys {
            return Err(StoreError::KeysFull { max: QUOTA.keys_max });
        }
        if after.bytes > QUOTA.bytes_max && after.bytes > before.bytes {
            return Err(StoreError::BytesFull { bytes: after.bytes, max: QUOTA.bytes_max });
        }
        *self = then;
        self.forget(now);
        Ok(())
    }

    fn forget(&mut self, now: u64) {
        self.0.retain(|_, (_, expiry)| expiry.is_none_or(|expiry| expiry > now));
    }

    /// What is to be answered, but for versions.
    fn ask(&mut self, operation: &Operation, now: u64) -> Result<Reply, StoreError> {
        operation.check(&QUOTA)?;
        Ok(match operation {
            Operation::Write { edits } => {
                self.edit(edits, now)?;
                Reply::Written
            }
            Operation::Increment { key, by } => {
                let found = self.0.get(key).cloned();
                let number: i64 = match &found {
                    Some((value, _)) => {
                        let text = std::str::from_utf8(value).expect("text");
                        let number = text.parse().map_err(|_| StoreError::NotANumber)?;
                        if format!("{number}") != text {
                            return Err(StoreError::NotANumber);
                        }
                        number
                    }
                    None => 0,
                };
                let sum = number.checked_add(*by).ok_or(StoreError::Overflow)?;
                let ttl_ms = found.and_then(|(_, expiry)| expiry).map(|expiry| expiry - now);
                self.edit(&[Edit::Set { key: key.clone(), value: sum.to_string().into_bytes(), ttl_ms }], now)?;
                Reply::Number(sum)
            }
            Operation::Exists { key } => Reply::Exists(self.0.contains_key(key)),
            Operation::List { prefix, after, limit } => {
                let behind =
                    |key: &&String| after.as_ref().is_none_or(|after| *key > after) && key.starts_with(&**prefix);
                let keys: Vec<String> = self.0.keys().filter(behind).cloned().collect();
                let next = (keys.len() > *limit).then(|| keys[limit - 1].clone());
                Reply::Page(Listing { keys: keys.into_iter().take(*limit).collect(), next })
            }
            Operation::Usage | Operation::Get { .. } | Operation::Swap { .. } => unreachable!("looked at elsewhere"),
        })
    }
}

/// Follows the pages, which may end at a key that has expired.
async fn listing<S: KeyValue>(stores: &S, store: &str, operation: &Operation) -> Result<Reply, StoreError> {
    let Operation::List { prefix, after, limit } = operation else {
        return stores.perform(store, operation.clone()).await;
    };
    let (mut keys, mut after) = (Vec::new(), after.clone());
    loop {
        let page = stores.list(store, prefix, after, limit + 1 - keys.len()).await?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() || keys.len() > *limit {
            break;
        }
    }
    let next = (keys.len() > *limit).then(|| keys[limit - 1].clone());
    keys.truncate(*limit);
    Ok(Reply::Page(Listing { keys, next }))
}

async fn follows<S: Clients>(world: &World<S, S::Owner>, name: &str, steps: Vec<Step>) -> Result<(), TestCaseError> {
    world.grant(&[(name, QUOTA), ("a", ROOMY)]).await;
    let (stores, mut model, mut now) = (&world.stores, Model::default(), 1_000_000);
    world.clock.store(now, std::sync::atomic::Ordering::Relaxed);
    for step in steps {
        match step {
            Step::Pass(milliseconds) => {
                now += milliseconds;
                world.pass(milliseconds);
                model.forget(now);
            }
            Step::Ask(Operation::Get { keys }) => {
                let expected = Operation::Get { keys: keys.clone() }.check(&QUOTA);
                let expected = expected.map(|()| keys.iter().map(|key| model.0.get(key).cloned()).collect::<Vec<_>>());
                let found = stores.get_many(name, keys).await;
                let found =
                    found.map(|found| found.into_iter().map(|it| it.map(|it| (it.value, it.expires_at))).collect());
                prop_assert_eq!(found, expected);
            }
            Step::Ask(operation) => {
                prop_assert_eq!(listing(stores, name, &operation).await, model.ask(&operation, now), "{:?}", operation);
            }
            Step::Swap { right, edit } => {
                let current = match stores.get(name, edit.key()).await {
                    Ok(current) => current.map(|stored| stored.version),
                    Err(_) => None,
                };
                let expected = if right { current } else { Some(current.unwrap_or(0) + 1) };
                let told = match (Operation::Swap { expected, edit: edit.clone() }.check(&QUOTA), right) {
                    (Ok(()), true) => model.edit(std::slice::from_ref(&edit), now).map(|()| true),
                    (Ok(()), false) => Ok(false),
                    (Err(error), _) => Err(error),
                };
                prop_assert_eq!(stores.swap(name, expected, edit).await, told);
            }
        }
        let usage = stores.usage(name).await.expect("usage");
        prop_assert!(usage.keys >= model.usage().keys && usage.keys <= QUOTA.keys_max, "{:?}", usage);
    }
    // All that has a TTL is gone, and does not count.
    now += 100;
    world.pass(100);
    model.forget(now);
    let ceiling = std::time::Instant::now() + crate::PATIENCE;
    while stores.usage(name).await != Ok(model.usage()) {
        prop_assert!(std::time::Instant::now() < ceiling, "{:?} is not {:?}", stores.usage(name).await, model.usage());
        stores.set("a", "any", b"").await.expect("a write, after which there is a sweep");
    }
    Ok(())
}

fn runs(cases: u32, follows: impl Fn(Vec<Step>) -> Result<(), TestCaseError>) {
    let cases = std::env::var("WASMHOST_STORAGE_CASES").map_or(cases, |cases| cases.parse().expect("a number"));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner.run(&proptest::collection::vec(steps(), 1..40), follows).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn stores_of_this_process_are_as_a_map() {
    runs(100, |steps| crate::run(async { follows(&crate::embedded().await, "m", steps).await }));
}

#[test]
fn stores_behind_a_line_are_as_a_map() {
    runs(30, |steps| crate::run(async { follows(&crate::line().await, "m", steps).await }));
}

#[test]
fn stores_of_a_server_are_as_a_map() {
    runs(30, |steps| {
        crate::run(async {
            let Some(world) = crate::redis().await else { return Ok(()) };
            follows(&world, "m", steps).await
        })
    });
}
