//! What makes a component of a project.

pub mod marker;
