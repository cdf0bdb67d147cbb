"""The steps that bring files of earlier versions forward. They keep the words that such files have."""

from __future__ import annotations

_TO_SECOND = """
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL,
    flagged_at REAL,
    suspended_at REAL
) WITHOUT ROWID;
CREATE TABLE api_counts (
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    slots TEXT NOT NULL,
    stale_at REAL NOT NULL,
    PRIMARY KEY (key_id, name)
) WITHOUT ROWID;
CREATE INDEX api_counts_by_age ON api_counts (stale_at);
CREATE TABLE suppressions (
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    category TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    since REAL NOT NULL,
    lifted INTEGER NOT NULL,
    PRIMARY KEY (channel, address, category)
) WITHOUT ROWID;
"""
"""The gateway's keys and what they used, and who must not be written to."""

_TO_THIRD = """
ALTER TABLE messages RENAME COLUMN lane TO queue;
ALTER TABLE messages RENAME COLUMN choice TO route;
ALTER TABLE messages RENAME COLUMN once TO single_round;
ALTER TABLE attached RENAME TO message_files;
ALTER TABLE keys RENAME TO idempotency_keys;
ALTER TABLE handles RENAME TO provider_ids;
ALTER TABLE provider_ids RENAME COLUMN handle TO provider_id;
ALTER TABLE lanes RENAME TO queues;
ALTER TABLE queues RENAME COLUMN lane TO queue;
ALTER TABLE queues RENAME COLUMN paced_until TO theoretical_start;
ALTER TABLE facts RENAME TO meta;
ALTER TABLE workers RENAME COLUMN beats TO heartbeats;
DROP INDEX doubted;
DROP INDEX attached_by_hash;
DROP INDEX keys_by_message;
DROP INDEX handles_by_message;
CREATE INDEX in_doubt ON messages (due_at) WHERE status = 'in_doubt';
CREATE INDEX message_files_by_hash ON message_files (hash);
CREATE INDEX idempotency_keys_by_message ON idempotency_keys (seq);
CREATE INDEX provider_ids_by_message ON provider_ids (seq);
UPDATE messages
    SET progress = json_remove(json_set(progress, '$.pending', json_extract(progress, '$.left')), '$.left')
    WHERE json_type(progress, '$.left') IS NOT NULL;
UPDATE messages
    SET progress = json_remove(json_set(progress, '$.recipients', json_extract(progress, '$.aim')), '$.aim')
    WHERE json_type(progress, '$.aim') IS NOT NULL;
UPDATE queues SET health = json_object(
    'queue', queue,
    'failure_rate', json_extract(health, '$.trouble'),
    'latency', json_extract(health, '$.latency'),
    'consecutive_failures', json_extract(health, '$.strikes'),
    'observed_at', json_extract(health, '$.observed_at'),
    'cooldown_until', json_extract(health, '$.rests_until'),
    'paused', json(CASE WHEN json_extract(health, '$.paused') THEN 'true' ELSE 'false' END),
    'reason', json_extract(health, '$.reason')
) WHERE health IS NOT NULL;
"""
"""The field's words for what the first version named otherwise."""

_TO_FOURTH = """
ALTER TABLE events ADD COLUMN provider_id TEXT;
UPDATE events SET provider_id = json_extract(event, '$.provider_message_id')
    WHERE json_valid(event) AND json_extract(event, '$.type') != 'inbound';
CREATE INDEX orphans ON events (provider_id) WHERE seq IS NULL AND provider_id IS NOT NULL;
CREATE INDEX orphans_by_age ON events (received_at) WHERE seq IS NULL AND provider_id IS NOT NULL;
CREATE TABLE ids_by_account (
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    kind TEXT NOT NULL,
    PRIMARY KEY (provider_id, channel, account, seq)
) WITHOUT ROWID;
INSERT INTO ids_by_account SELECT channel,
    coalesce(CASE WHEN json_valid(receipt) THEN json_extract(receipt, '$.account') END,
             substr(queue, 1, instr(queue, '/') - 1)),
    provider_id, seq, 'shared' FROM provider_ids JOIN messages USING (seq);
UPDATE ids_by_account SET kind = 'own' WHERE channel = 'sms' AND NOT EXISTS (SELECT 1 FROM ids_by_account other
    WHERE other.provider_id = ids_by_account.provider_id AND other.channel = ids_by_account.channel
    AND other.account = ids_by_account.account AND other.seq != ids_by_account.seq);
DROP TABLE provider_ids;
ALTER TABLE ids_by_account RENAME TO provider_ids;
CREATE UNIQUE INDEX provider_ids_of_one ON provider_ids (channel, account, provider_id) WHERE kind != 'shared';
CREATE INDEX provider_ids_by_message ON provider_ids (seq);
UPDATE messages SET status = 'in_doubt', due_at = 0 WHERE status IN ('in_doubt', 'retrying') AND attempts > 0
    AND EXISTS (SELECT 1 FROM events WHERE events.seq = messages.seq);
ALTER TABLE suppressions RENAME TO suppressions_before;
CREATE TABLE suppressions (
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    category TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    since REAL NOT NULL,
    lifted INTEGER NOT NULL,
    PRIMARY KEY (channel, address, category, reason)
) WITHOUT ROWID;
INSERT INTO suppressions SELECT * FROM suppressions_before;
DROP TABLE suppressions_before;
"""
"""Reports are matched whenever they come, and an id is one message's.

A worker looks at once at messages in doubt, or about to be tried again, of which reports came that did not count.
There is a suppression for each reason, so that what lifts one does not lift another.
"""

_TO_FIFTH = """
CREATE TABLE early_files (hash BLOB PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
"""
"""Large contents are stored in pieces, before their messages are; earlier versions could not read them back."""

STEPS: tuple[str, ...] = (_TO_SECOND, _TO_THIRD, _TO_FOURTH, _TO_FIFTH)
"""`STEPS[n]` leads from version n + 1 to the next."""
