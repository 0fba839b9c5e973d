-- no-transaction
-- E-mail addresses are compared by a normal form that the service computes, because lower() depends
-- on the database's locale and knows nothing of internationalized domain names. Each step can be
-- repeated and commits at once, so that no lock is held longer than its own step takes.

begin;
set local lock_timeout = '3s';
alter table users
    -- Null until the service has computed it: for rows that an older release wrote, and for those
    -- whose address another user has in a different spelling.
    add column if not exists normal_email text collate "C",
    -- True in an update that sets normal_email for the new e-mail address; never stored.
    add column if not exists normal_email_set boolean;

-- A release that does not know the column may change an address. Its normal form is then unknown.
create or replace function users_check_normal_email() returns trigger language plpgsql as $$
begin
    if new.normal_email_set is not true then
        new.normal_email := null;
    end if;
    new.normal_email_set := null;
    return new;
end
$$;

create or replace trigger users_check_normal_email
before update of email on users for each row
when (new.email is distinct from old.email or new.normal_email_set is not null)
execute function users_check_normal_email();
commit;

-- The index of older releases, users_email_key on lower(email), stays: their inserts name it. It can
-- be dropped, and the trigger with it, by a later release once none of them runs and every user has
-- a normal form.
begin;
set local lock_timeout = '3s';
create unique index if not exists users_normal_email_key on users (normal_email)
where normal_email is not null;
commit;

begin;
set local lock_timeout = '3s';
create index if not exists users_without_normal_email on users (id) where normal_email is null;
commit;
