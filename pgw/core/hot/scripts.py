"""One step on Redis -> the script that makes it atomic, each with its reasons; for Redis 6.2 and newer.

Event numbers are passed as text: a Lua number may be formatted as `1e+15`. `LOST` is a script's error when the state it
needs is gone.
"""

LOST = "LOST"

_TOP = """
local function fields_of(flat)
    local fields = {}
    for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
    return fields
end
local function number_of(id) return string.match(id, '^%d+') end
local function top_of(stream)
    if redis.call('EXISTS', stream) == 0 then return nil end
    return number_of(fields_of(redis.call('XINFO', 'STREAM', stream))['last-generated-id'])
end
local function group_of(stream, name)
    if redis.call('EXISTS', stream) == 0 then return nil end
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local group = fields_of(flat)
        if group['name'] == name then return group end
    end
    return nil
end
"""

SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""KEYS breaker; ARGV the value that was read (empty: none), the new value.

Why the raw text is compared and no version: then a writer needs to know only the value it read, and two equal values
are the same breaker.
"""

BEAT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.6f', now) .. ' ' .. ARGV[2])
local living = {}
local fleet = redis.call('HGETALL', KEYS[1])
for i = 1, #fleet, 2 do
    local at = tonumber(string.match(fleet[i + 1], '^%S+')) or 0
    if at > now - tonumber(ARGV[3]) then
        living[#living + 1] = fleet[i + 1]
    elseif at < now - tonumber(ARGV[4]) then
        redis.call('HDEL', KEYS[1], fleet[i])
    end
end
return living
"""
"""KEYS fleet; ARGV process, heartbeat, seconds it counts as living, seconds it is kept -> `at heartbeat` of the living.

Why one hash and not a key with an expiry each: reading them is one command, and SCAN would walk a foreign database.
Why kept longer than living: an operator can list recently stopped processes with HGETALL.
"""

STATE = (
    _TOP
    + """
local state = redis.call('HMGET', KEYS[1], 'generation', 'ledger_id', 'base')
if not state[1] or not group_of(KEYS[2], ARGV[1]) then return false end
state[4] = top_of(KEYS[2])
return state
"""
)
"""KEYS state, stream; ARGV group -> generation, ledger id, base, top; nothing when any part of it is gone."""

NEXT_GENERATION = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local generation = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0') + 1)
redis.call('SET', KEYS[1], string.format('%.0f', generation))
return string.format('%.0f', generation)
"""
"""KEYS last generation -> one that was never used.

Why it begins at the time: after a wipe a count from one would repeat a number that a reader still holds, and the reader
would take the rebuilt metrics for its own.
"""

SWITCH = (
    _TOP
    + """
local state, stream = KEYS[1], KEYS[2]
local group, generation, base = ARGV[1], ARGV[3], ARGV[4]
local old, owner = unpack(redis.call('HMGET', state, 'generation', 'ledger_id'))
if old and tonumber(old) >= tonumber(generation) then return 0 end
local top = top_of(stream)
local foreign = owner and owner ~= ARGV[2]
if top and (foreign or tonumber(top) > tonumber(base)) then
    local follows = ARGV[5] .. '-0'
    local may_keep = ARGV[6] == '1' and owner == ARGV[2]
    if not (may_keep and #redis.call('XRANGE', stream, follows, follows) == 1) then
        local groups = redis.call('XINFO', 'GROUPS', stream)
        redis.call('UNLINK', stream)
        for _, flat in ipairs(groups) do
            redis.call('XGROUP', 'CREATE', stream, fields_of(flat)['name'], base .. '-0', 'MKSTREAM')
        end
        top = '0'
    end
end
if redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DESTROY', stream, group) end
redis.call('XGROUP', 'CREATE', stream, group, base .. '-0', 'MKSTREAM')
if tonumber(top or '0') < tonumber(base) then redis.call('XSETID', stream, base .. '-0') end
redis.call('HSET', state, 'generation', generation, 'ledger_id', ARGV[2], 'base', base)
if old then
    local revisions = ARGV[7] .. old .. ':revs'
    for _, slice in ipairs(redis.call('HKEYS', revisions)) do
        redis.call('EXPIRE', ARGV[7] .. old .. ':' .. slice, ARGV[8])
    end
    redis.call('EXPIRE', revisions, ARGV[8])
end
return 1
"""
)
"""KEYS state, stream; ARGV group, ledger id, generation, base, base + 1, 1 to keep newer entries, prefix of metrics,
seconds the old metrics stay -> 0 after a newer rebuild.

Why the group is recreated: that drops its pending entries, so a worker that still holds some applies nothing.
Why the stream is recreated when it is ahead: an id cannot be used twice, and newer Redis refuses to lower the last one
of a stream that had entries deleted. The other groups are set to its beginning.
Why the old metrics stay for a while: a reader may be between its two trips.
"""

APPEND = (
    _TOP
    + """
local top = top_of(KEYS[2])
if not top or redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('LOST') end
if top ~= ARGV[1] then return top end
local number = tonumber(top)
for i = 2, #ARGV do
    redis.call('XADD', KEYS[2], string.format('%.0f-0', number + i - 1), 'event', ARGV[i])
end
return string.format('%.0f', number + #ARGV - 1)
"""
)
"""KEYS state, stream; ARGV number of the entry these follow, the events in order -> top of the stream.

Why the top is compared and Redis' own refusal of a low id is not enough: an id above the top is accepted whatever is
between, so a relay that slept through a wipe would leave a gap.
Why a missing stream is not created: it would have no group, and earlier events would never be counted.
"""

CLAIM = """
local silent = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])
if #silent == 0 then return {} end
local ids, deliveries = {}, {}
for i, each in ipairs(silent) do
    ids[i] = each[1]
    deliveries[each[1]] = each[4] + 1
end
local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], unpack(ids))
local entries = {}
for i = 1, #claimed do
    local entry = claimed[i]
    if entry and entry[2] then
        entries[#entries + 1] = {entry[1], entry[2], deliveries[entry[1]]}
        deliveries[entry[1]] = nil
    end
end
for id in pairs(deliveries) do redis.call('XACK', KEYS[1], ARGV[1], id) end
return entries
"""
"""KEYS stream; ARGV group, consumer, idle milliseconds, most entries -> id, fields, deliveries of what was claimed.

Why not XAUTOCLAIM: on 6.2 it leaves entries in the pending list that were deleted from the stream, and it omits
how often the others were delivered. A deleted one can never be applied: it is acknowledged here.
"""

APPLY = """
local generation = redis.call('HGET', KEYS[1], 'generation')
if not generation then return redis.error_reply('LOST') end
local stream, group, consumer = KEYS[2], ARGV[1], ARGV[2]
local at, runs = 6, tonumber(ARGV[5])
local ids, asked = {}, 0
for _ = 1, runs do
    local most = tonumber(ARGV[at + 2])
    local ours = redis.call('XPENDING', stream, group, ARGV[at] .. '-0', ARGV[at + 1] .. '-0', most, consumer)
    for i = 1, #ours do ids[#ids + 1] = ours[i][1] end
    asked = asked + most
    at = at + 3
end
if #ids ~= asked then return ids end
for i = 1, #ids, 1000 do redis.call('XACK', stream, group, unpack(ids, i, math.min(i + 999, #ids))) end
local prefix = ARGV[3] .. generation .. ':'
local revisions, seconds, fresh = prefix .. 'revs', ARGV[4], false
while at <= #ARGV do
    local counts = prefix .. ARGV[at]
    local last = at + 1 + 2 * tonumber(ARGV[at + 1])
    for i = at + 2, last, 2 do redis.call('HINCRBY', counts, ARGV[i], ARGV[i + 1]) end
    redis.call('EXPIRE', counts, seconds)
    fresh = redis.call('HINCRBY', revisions, ARGV[at], 1) == 1 or fresh
    at = last + 1
end
redis.call('EXPIRE', revisions, seconds)
if fresh then
    for _, slice in ipairs(redis.call('HKEYS', revisions)) do
        if redis.call('EXISTS', prefix .. slice) == 0 then redis.call('HDEL', revisions, slice) end
    end
end
return false
"""
"""KEYS state, stream; ARGV group, consumer, prefix of metrics, seconds a slice is kept, number of runs, then per run
its first and last number and its length, then per slice its number, its number of fields and (field, amount) each
-> nothing when applied, else the ids of those asked for that are this consumer's.

Why one script: an entry is pending exactly until its effect is there, so neither a crash nor a second delivery can
apply it twice or never. Why runs: what was delivered together has numbers in a row, and one XPENDING with a limit
proves a whole run.
Why revisions are pruned by what exists: a slice ends by its expiry, without a notification.
"""

BURY = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3] .. '-0', ARGV[3] .. '-0', 1, ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'event', ARGV[4], 'number', ARGV[3], 'reason', ARGV[5])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3] .. '-0')
return 1
"""
"""KEYS stream, dead stream; ARGV group, consumer, number, event, reason, most dead letters -> 1 if it was pending.

Why one script: an entry is either pending or a dead letter, never both and never neither.
"""

TRIM = (
    _TOP
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = fields_of(flat)
    if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[3]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    end
end
local done = nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = fields_of(flat)
    local mine = tonumber(number_of(group['last-delivered-id']))
    if group['pending'] > 0 then
        mine = tonumber(number_of(redis.call('XPENDING', KEYS[1], group['name'])[2])) - 1
    end
    done = math.min(done or mine, mine)
end
if not done or done <= tonumber(ARGV[2]) then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', done - tonumber(ARGV[2]) + 1))
"""
)
"""KEYS stream; ARGV group, acknowledged entries to keep, idle milliseconds after which an empty consumer is deleted
-> entries removed.

Why MINID and not MAXLEN: a length says nothing of which group has read what (redis issue 5570).
Why consumers are deleted here: each process has a name of its own, and Redis never deletes one by itself.
"""

LAG = (
    _TOP
    + """
local group = group_of(KEYS[1], ARGV[1])
if not group then return redis.error_reply('LOST') end
local oldest = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)
local idle = oldest[1] and oldest[1][3] or 0
return {top_of(KEYS[1]), number_of(group['last-delivered-id']), group['pending'], idle}
"""
)
"""KEYS stream; ARGV group -> top, last number delivered, pending, idle milliseconds of the lowest pending entry.

Why not the group's own `lag`: 6.2 has none. Numbers have no gaps, so the difference of two of them is a count.
"""
