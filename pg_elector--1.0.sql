/* pg_elector--1.0.sql */

\echo Use "CREATE EXTENSION pg_elector" to load this file. \quit

--
-- For everybody
--

CREATE FUNCTION elector_is_leader() RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION elector_is_leader() IS
'whether this node takes writes now: it is the primary, and its lease has not ended';

CREATE FUNCTION elector_term() RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION elector_term() IS
'term this node leads, a fencing token that only grows; NULL where it does not lead';

CREATE FUNCTION elector_status_rows(
    OUT node text, OUT role text, OUT state text, OUT term bigint,
    OUT timeline integer, OUT lsn pg_lsn, OUT lag_bytes bigint,
    OUT lease_ms_left bigint, OUT priority integer, OUT zone text, OUT detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_status_rows() IS 'rows of elector_status';

CREATE VIEW elector_status AS
    SELECT * FROM elector_status_rows() ORDER BY node;
COMMENT ON VIEW elector_status IS
'the cluster as this node sees it, one row a member; asks the members, for half a second at most';
COMMENT ON COLUMN elector_status.node IS 'name of the member';
COMMENT ON COLUMN elector_status.role IS 'leader or follower';
COMMENT ON COLUMN elector_status.state IS 'what it is doing, in a word or two: open, streaming, down, ...';
COMMENT ON COLUMN elector_status.term IS 'term it leads or follows';
COMMENT ON COLUMN elector_status.timeline IS 'timeline it is on';
COMMENT ON COLUMN elector_status.lsn IS 'end of the WAL it has written, or received';
COMMENT ON COLUMN elector_status.lag_bytes IS 'how far that is behind the leader, in bytes';
COMMENT ON COLUMN elector_status.lease_ms_left IS 'time left of its lease in etcd, in milliseconds';
COMMENT ON COLUMN elector_status.priority IS 'among equally advanced members the highest becomes leader';
COMMENT ON COLUMN elector_status.zone IS 'failure domain';
COMMENT ON COLUMN elector_status.detail IS 'what it waits for or what is wrong, and what to do';

CREATE FUNCTION elector_lease_rows(
    OUT id text, OUT ttl_ms bigint, OUT left_ms bigint, OUT renewals bigint,
    OUT failures bigint, OUT round_trip_ms double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_lease_rows() IS 'rows of elector_lease';

CREATE VIEW elector_lease AS SELECT * FROM elector_lease_rows();
COMMENT ON VIEW elector_lease IS
'this node''s lease in etcd: a leader''s that its leadership hangs on, a follower''s that says it is there; no row without one';
COMMENT ON COLUMN elector_lease.id IS 'lease ID, in hexadecimal, as etcdctl shows it';
COMMENT ON COLUMN elector_lease.ttl_ms IS 'how long etcd keeps it unrenewed, in milliseconds';
COMMENT ON COLUMN elector_lease.left_ms IS 'time left, the margin already taken off, in milliseconds';
COMMENT ON COLUMN elector_lease.renewals IS 'renewals that etcd confirmed';
COMMENT ON COLUMN elector_lease.failures IS 'renewals that it did not answer in time';
COMMENT ON COLUMN elector_lease.round_trip_ms IS 'time of the last renewal, in milliseconds';

CREATE FUNCTION elector_history_rows(
    OUT term bigint, OUT leader text, OUT elector text, OUT timeline integer,
    OUT lsn pg_lsn, OUT reason text, OUT revoked text, OUT note text,
    OUT began_at timestamptz, OUT opened_at timestamptz,
    OUT blocked text, OUT blocked_at timestamptz, OUT blocked_until timestamptz,
    OUT pause_ms integer, OUT notice_ms integer, OUT lock_ms integer,
    OUT revoke_ms integer, OUT choose_ms integer, OUT establish_ms integer,
    OUT promote_ms integer, OUT open_ms integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_history_rows() IS 'rows of elector_history';

CREATE VIEW elector_history AS
    SELECT * FROM elector_history_rows() ORDER BY term;
COMMENT ON VIEW elector_history IS 'the last hundred leaderships';
COMMENT ON COLUMN elector_history.term IS 'number of the leadership; only grows, by one unless an election came to nothing in between';
COMMENT ON COLUMN elector_history.leader IS 'node that became leader';
COMMENT ON COLUMN elector_history.elector IS 'node that ran the change';
COMMENT ON COLUMN elector_history.timeline IS 'timeline of the term';
COMMENT ON COLUMN elector_history.lsn IS 'where it began';
COMMENT ON COLUMN elector_history.reason IS 'why there was a change';
COMMENT ON COLUMN elector_history.revoked IS 'how the leadership before was proven over: handed over, released, fenced, lease gone, none';
COMMENT ON COLUMN elector_history.note IS 'what an operator should know, for instance that rows may be missing';
COMMENT ON COLUMN elector_history.began_at IS 'when leadership was won in etcd';
COMMENT ON COLUMN elector_history.opened_at IS 'when writes were taken; NULL if they never were';
COMMENT ON COLUMN elector_history.blocked IS 'why no election might begin when it was over: cooldown (pg_elector.failover_cooldown) or paused; null: none was blocked';
COMMENT ON COLUMN elector_history.blocked_at IS 'when the first one was';
COMMENT ON COLUMN elector_history.blocked_until IS 'when it may begin; null where that takes an elector_resume()';
COMMENT ON COLUMN elector_history.pause_ms IS 'for how long nobody took writes, in milliseconds: the sum of the phases; NULL if one of them is not known';
COMMENT ON COLUMN elector_history.notice_ms IS 'from the end of writes, in a planned change, or the last sign of the old leader until it was seen that there is none, in milliseconds';
COMMENT ON COLUMN elector_history.lock_ms IS 'from there until the election lock was held, in milliseconds';
COMMENT ON COLUMN elector_history.revoke_ms IS 'from there until the old leadership was proven over, in milliseconds';
COMMENT ON COLUMN elector_history.choose_ms IS 'from there until the candidate was chosen, which waits for the members to be fenced, in milliseconds';
COMMENT ON COLUMN elector_history.establish_ms IS 'the transaction that won leadership in etcd, in milliseconds';
COMMENT ON COLUMN elector_history.promote_ms IS 'from there until the promotion was complete, in milliseconds';
COMMENT ON COLUMN elector_history.open_ms IS 'from there until the term was recorded as open, in milliseconds';

CREATE FUNCTION elector_durability_rows(
    OUT rule text, OUT next text, OUT degraded boolean, OUT safe boolean,
    OUT missing text, OUT node text, OUT wanted text, OUT member boolean,
    OUT lag_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_durability_rows() IS 'rows of elector_durability';

CREATE VIEW elector_durability AS
    SELECT * FROM elector_durability_rows() ORDER BY node;
COMMENT ON VIEW elector_durability IS
'what makes a commit durable, one row a member; asks the members, for half a second at most';
COMMENT ON COLUMN elector_durability.rule IS 'policy in force';
COMMENT ON COLUMN elector_durability.next IS 'policy that it is being changed to, while both are in force; the same one if only its members change';
COMMENT ON COLUMN elector_durability.degraded IS 'whether commits are acknowledged with less than is wanted, since too few followers are there';
COMMENT ON COLUMN elector_durability.safe IS 'whether the loss of the leader, now, would lose no acknowledged commit and stop nothing; NULL under "async", which promises nothing';
COMMENT ON COLUMN elector_durability.missing IS 'members whose absence prevents that';
COMMENT ON COLUMN elector_durability.node IS 'name of the member';
COMMENT ON COLUMN elector_durability.wanted IS 'its pg_elector.durability';
COMMENT ON COLUMN elector_durability.member IS 'whether its acknowledgement counts, when another one leads';
COMMENT ON COLUMN elector_durability.lag_bytes IS 'how far it is behind the leader, in bytes';

GRANT SELECT ON elector_status, elector_lease, elector_history, elector_durability TO PUBLIC;

--
-- For operators
--

CREATE FUNCTION elector_switchover(
    target text DEFAULT NULL, wait boolean DEFAULT true,
    timeout interval DEFAULT '1 minute', dry_run boolean DEFAULT false,
    at timestamptz DEFAULT NULL,
    OUT leader text, OUT term bigint, OUT pause_ms integer)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_switchover(text, boolean, interval, boolean, timestamptz) IS
'have the leader hand over to the target, or to the best follower. Checked at once, an error says why it cannot be. On another node than the leader it waits, for timeout at most, until the new leader takes writes, and returns it with its term and for how many milliseconds nobody did; on the leader, with wait => false, and with a time at which it is to happen, it returns who will lead. dry_run only checks';

CREATE FUNCTION elector_failover(
    target text DEFAULT NULL, accept_data_loss boolean DEFAULT false,
    timeout interval DEFAULT '1 minute',
    OUT leader text, OUT term bigint, OUT pause_ms integer)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_failover(text, boolean, interval) IS
'where there is no leader because members that may have acknowledged commits are gone for good: have the target lead, or the best that is left. Without accept_data_loss it says how much may be lost, and does nothing; elector_history keeps that it was accepted';

CREATE FUNCTION elector_cancel_switchover() RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_cancel_switchover() IS
'cancel the switchover that is scheduled or being prepared; false if there is none';

CREATE FUNCTION elector_pause(reason text DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_pause(text) IS
'no change of the leader until elector_resume(), whatever happens to it; a leader that is restarted leads again. False if the cluster is paused already';

CREATE FUNCTION elector_hold(reason text, duration interval) RETURNS bigint
AS 'MODULE_PATHNAME', 'elector_hold_leader' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_hold(text, interval) IS
'no planned change of the leader for so long, a day at most; returns the number of the hold. A failover still happens, and ends it: see elector_hold_valid()';

CREATE FUNCTION elector_release(id bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'elector_release_leader' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_release(bigint) IS 'end a hold; false if it is over already';

CREATE FUNCTION elector_hold_valid(id bigint) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_hold_valid(bigint) IS
'whether the leader has been the same since the hold was taken, and the hold is not over';

CREATE FUNCTION elector_resume() RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_resume() IS
'let the cluster change its leader again; false if it is not paused';

CREATE FUNCTION elector_remove_member(node text) RETURNS void
AS 'MODULE_PATHNAME', 'elector_forget_member' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_remove_member(text) IS
'forget a member that is gone for good: no election waits for it, no durability rule counts it, and its slots are dropped. An error that says why if it leads or is alive. Its server becomes a member again if it is started';

--
-- For the other nodes
--

CREATE FUNCTION elector_report() RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION elector_report() IS 'what this node says of itself, for the other nodes';

CREATE FUNCTION elector_fence(request text) RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_fence(text) IS
'close the gate and follow nobody for a newer term, for the node that runs an election; answers when that is complete';

CREATE FUNCTION elector_promise(request text) RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_promise(text) IS
'promise the leader, which is without etcd, to elect nobody else for a while; the answer says whether it is promised';

CREATE FUNCTION elector_establish(request text) RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION elector_establish(text) IS
'become leader, for the node that runs an election and has chosen this one';

REVOKE ALL ON FUNCTION elector_switchover(text, boolean, interval, boolean, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_failover(text, boolean, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_cancel_switchover() FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_pause(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_hold(text, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_release(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_resume() FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_remove_member(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_report() FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_fence(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_promise(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION elector_establish(text) FROM PUBLIC;

CREATE FUNCTION elector_grant_peer(role regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format('ALTER ROLE %s REPLICATION', role);
    EXECUTE format('GRANT pg_checkpoint TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.elector_report(), @extschema@.elector_fence(text), @extschema@.elector_promise(text), @extschema@.elector_establish(text) TO %s', role);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean), pg_catalog.pg_read_binary_file(text), pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO %s', role);
END
$$;
COMMENT ON FUNCTION elector_grant_peer(regrole) IS
'give a role what the user of pg_elector.conninfo needs to replicate, elect, and rewind';
REVOKE ALL ON FUNCTION elector_grant_peer(regrole) FROM PUBLIC;
