//! End to end tests: every one starts the real binary on a free port and speaks to it over the wire. A file for each
//! question; `support` has the server, the client and the wait.

mod support;

mod serving;
