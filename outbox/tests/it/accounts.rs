//! Accounts with a version, which plain SQL restates, and a copy of them that a consumer would build.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};
use testkit::eventually;

use crate::support::{Target, World};

const ACCOUNTS: &str = "
    create table account (id text primary key, version bigint not null, name text not null);

    create function restate_accounts(aggregate_ids text[], versions bigint[])
    returns setof text language plpgsql as $$
    declare
        wanted record;
        account record;
    begin
        lock table account in share row exclusive mode;
        for wanted in select * from unnest(aggregate_ids, versions) as wanted (id, version) loop
            update account as a set version = greatest(a.version, coalesce(wanted.version, 0)) + 1
            where a.id = wanted.id returning a.* into account;
            if account.id is not null then
                perform outbox.append('account', account.id, 'account_restated',
                    json_build_object('name', account.name), account.version);
            else
                perform outbox.append('account', wanted.id, 'account_deleted', '{}',
                    coalesce(wanted.version, 0) + 1);
            end if;
            return next wanted.id;
        end loop;
    end
    $$;";

pub(crate) const REGISTER: &str =
    "insert into outbox.aggregate values ('account', 'public.restate_accounts')";

/// What a restore brings back, apart from the lease, which is free by then.
const SAVE: &str = "
    create schema saved;
    create table saved.event as table outbox.event;
    create table saved.cursor as table outbox.cursor;
    create table saved.checkpoint as table outbox.checkpoint;
    create table saved.orphan as table outbox.orphan;
    create table saved.account as table account;
    create table saved.sequence as select last_value, is_called from outbox.event_id_seq;";

const RESTORE: &str = "
    begin;
    truncate outbox.event, account;
    delete from outbox.cursor;
    insert into outbox.event select * from saved.event;
    insert into outbox.cursor select * from saved.cursor;
    insert into outbox.checkpoint select * from saved.checkpoint;
    insert into outbox.orphan select * from saved.orphan;
    insert into account select * from saved.account;
    select setval('outbox.event_id_seq', last_value, is_called) from saved.sequence;
    commit;";

/// A version, and the name of an account that lives.
pub(crate) type Account = (i64, Option<String>);

impl World {
    pub(crate) async fn with_accounts() -> Self {
        let world = Self::new().await;
        world.execute(ACCOUNTS).await;
        world
    }

    pub(crate) async fn save(&self) {
        self.execute(SAVE).await;
    }

    pub(crate) async fn restore(&self) {
        self.execute(RESTORE).await;
    }

    pub(crate) async fn change(&self, id: &str, name: &str) {
        let change = "
            with changed as (
                insert into account values ($1, 1, $2)
                on conflict (id) do update set version = account.version + 1, name = excluded.name
                returning *
            )
            select outbox.append('account', id, 'account_changed',
                                 json_build_object('name', name), version)
            from changed";
        let changed = sqlx::query(change).bind(id).bind(name);
        let changed = changed.execute(&self.database.pool).await;
        changed.expect("a change");
    }

    pub(crate) async fn delete(&self, id: &str) {
        let delete = "
            with gone as (delete from account where id = $1 returning *)
            select outbox.append('account', id, 'account_deleted', '{}', version + 1) from gone";
        let deleted = sqlx::query(delete).bind(id);
        let deleted = deleted.execute(&self.database.pool).await;
        deleted.expect("a deletion");
    }

    /// Waits until the copy is what the database has.
    pub(crate) async fn converges(&self, target: &Target) {
        let mut last = BTreeMap::new();
        let converged = async || {
            let rows = sqlx::query("select id, version, name from account")
                .fetch_all(&self.database.pool)
                .await
                .ok()?;
            let expected: BTreeMap<String, Account> = (rows.iter())
                .map(|row| (row.get(0), (row.get(1), Some(row.get(2)))))
                .collect();
            last = self.copy(target).await;
            let living = last
                .clone()
                .into_iter()
                .filter(|(_, (_, name))| name.is_some());
            (living.collect::<BTreeMap<_, _>>() == expected).then_some(())
        };
        eventually("the copy to be what the database has", converged).await;
    }

    /// What a consumer has that applies an event only if its version is higher.
    pub(crate) async fn copy(&self, target: &Target) -> BTreeMap<String, Account> {
        let mut copy: BTreeMap<String, Account> = BTreeMap::new();
        for (id, version, name) in self.messages(target).await {
            if copy.get(&id).is_none_or(|(known, _)| *known < version) {
                copy.insert(id, (version, name));
            }
        }
        copy
    }

    /// Messages about accounts, in the order of the stream.
    pub(crate) async fn messages(&self, target: &Target) -> Vec<(String, i64, Option<String>)> {
        let stream = self.stream(target).await;
        let state = stream.cached_info().state.clone();
        let mut messages = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            let header = |name| message.headers.get(name).map(ToString::to_string);
            let version = header("ce-aggregateversion").and_then(|it| it.parse().ok());
            let (Some(id), Some(version)) = (header("ce-subject"), version) else {
                continue;
            };
            let body: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
            let name = body["payload"]["name"].as_str().map(str::to_owned);
            messages.push((id, version, name));
        }
        messages
    }

    pub(crate) async fn assert_versions_increase(&self, target: &Target) {
        let mut last = BTreeMap::new();
        let messages = self.messages(target).await;
        for (id, version, _) in &messages {
            let before = last.insert(id, version);
            assert!(before.is_none_or(|it| it < version), "{messages:?}");
        }
    }

    pub(crate) async fn count(&self, of: &str) -> i64 {
        let count = format!("select count(*) from {of}");
        sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&self.database.pool)
            .await
            .expect("a number")
    }

    /// Waits until there are as many rows.
    pub(crate) async fn has(&self, count: i64, of: &str) {
        eventually(of, async || (self.count(of).await == count).then_some(())).await;
    }
}
