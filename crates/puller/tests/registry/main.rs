//! Pulls from registries that misbehave in every way the catalogue knows; see each module.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod fixture;
mod mock;
mod sink;

mod auth;
mod bytes;
mod documents;
mod local;
mod mirrors;
mod pulls;
mod redirects;
mod status;
mod stop;
mod tls;
