//! Stores by wasi:keyvalue 0.2.0-draft2.

use crate::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use crate::{Failure, Store};

pub(crate) struct Bucket(store::Bucket);

fn told(error: store::Error) -> Failure {
    match error {
        store::Error::NoSuchStore => "no-such-store".to_owned(),
        store::Error::AccessDenied => "access-denied".to_owned(),
        store::Error::Other(text) => format!("other: {text}"),
    }
}

impl Store for Bucket {
    fn open(name: &str) -> Result<Self, Failure> {
        store::open(name).map(Self).map_err(told)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.0.get(key).map_err(told)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        self.0.set(key, value).map_err(told)
    }

    fn delete(&self, key: &str) -> Result<(), Failure> {
        self.0.delete(key).map_err(told)
    }

    fn exists(&self, key: &str) -> Result<bool, Failure> {
        self.0.exists(key).map_err(told)
    }

    fn list(&self, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), Failure> {
        let page = self.0.list_keys(cursor).map_err(told)?;
        Ok((page.keys, page.cursor))
    }

    fn increment(&self, key: &str, by: i64) -> Result<i64, Failure> {
        atomics::increment(&self.0, key, by).map_err(told)
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let found = batch::get_many(&self.0, keys).map_err(told)?;
        assert!(found.iter().map(|(key, _)| key).eq(keys), "all that was asked for, in this order");
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        batch::set_many(&self.0, pairs).map_err(told)
    }

    fn delete_many(&self, keys: &[String]) -> Result<(), Failure> {
        batch::delete_many(&self.0, keys).map_err(told)
    }

    fn swap(&self, key: &str, value: &[u8], meanwhile: Option<&[u8]>) -> Result<(Option<Vec<u8>>, bool), Failure> {
        let cas = atomics::Cas::new(&self.0, key).map_err(told)?;
        let was = cas.current().map_err(told)?;
        if let Some(meanwhile) = meanwhile {
            self.set(key, meanwhile)?;
        }
        match atomics::swap(cas, value) {
            Ok(()) => Ok((was, true)),
            Err(atomics::CasError::StoreError(error)) => Err(told(error)),
            // What came in between, with which it could be tried again.
            Err(atomics::CasError::CasFailed(again)) => Ok((again.current().map_err(told)?, false)),
        }
    }
}
