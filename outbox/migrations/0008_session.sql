-- Which of the relay's sessions may move this cursor: each takes a number of its own, and a statement of an
-- earlier one, which may come late, changes nothing.
alter table outbox.cursor add column session bigint not null default 0;
