//! Stores by wasi:keyvalue 0.2.0-draft.

use crate::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
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
        let cursor = cursor.map(|cursor| cursor.parse().map_err(|_| "no cursor".to_owned())).transpose()?;
        let page = self.0.list_keys(cursor).map_err(told)?;
        Ok((page.keys, page.cursor.map(|cursor| cursor.to_string())))
    }

    fn increment(&self, key: &str, by: i64) -> Result<i64, Failure> {
        // What is below zero becomes a very large number, which is refused.
        Ok(atomics::increment(&self.0, key, by as u64).map_err(told)? as i64)
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let found = batch::get_many(&self.0, keys).map_err(told)?;
        assert!(found.iter().zip(keys).all(|(pair, key)| pair.as_ref().is_none_or(|(found, _)| found == key)));
        Ok(found.into_iter().map(|pair| pair.map(|(_, value)| value)).collect())
    }

    fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        batch::set_many(&self.0, pairs).map_err(told)
    }

    fn delete_many(&self, keys: &[String]) -> Result<(), Failure> {
        batch::delete_many(&self.0, keys).map_err(told)
    }

    fn swap(&self, _: &str, _: &[u8], _: Option<&[u8]>) -> Result<(Option<Vec<u8>>, bool), Failure> {
        Err("this version has no swap".to_owned())
    }
}
