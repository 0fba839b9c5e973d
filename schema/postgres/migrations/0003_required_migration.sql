-- Which releases can run on this schema: those that know at least this migration. A migration that
-- older releases cannot run with raises it; all others leave it, so that a release can be rolled
-- back and old and new ones can run at the same time.

create table schema_requirement (
    is_only_row boolean primary key default true check (is_only_row),
    migration   bigint not null
);

insert into schema_requirement (migration) values (3);
