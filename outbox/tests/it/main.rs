//! The relay on real servers, with producers that know nothing but SQL.

mod accounts;
mod both_restored;
mod orphans;
mod parking;
mod producers;
mod program;
mod repair;
mod restore;
mod stream_loss;
mod streams;
mod support;
mod two_databases;
