//! Projects of every language: [`templates`] to begin with, [`build`] to make components, [`inspect`] to see what a file
//! contains.

pub mod build;
pub mod inspect;
pub mod templates;
