//! The relay on real servers, with producers that know nothing but SQL.

mod parking;
mod producers;
mod repair;
mod streams;
mod support;
