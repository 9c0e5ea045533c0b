//! Every bound in one place: name, unit, reason. Nothing is allocated before the matching bound is checked.
//! Bounds that an operator may want to move are configuration; these are their defaults and outer limits.

use std::time::Duration;

/// Bytes in an S3 key, UTF-8. Source: S3 User Guide, "Naming Amazon S3 objects".
pub const KEY_BYTES: usize = 1024;
/// Bytes of one record. CloudTrail documents 256 KB for an event; four times that leaves room for rewritten ones.
pub const RECORD_BYTES: usize = 1024 * 1024;
/// Nesting of JSON inside a record. Real records stay below 20; the scanner keeps one bit a level.
pub const JSON_DEPTH: usize = 128;
/// Bytes of one hand-over from a fetch to the decoder. Nine of ten objects fit into one.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// Hand-over buffers one fetch may hold: one with the network, one with the decoder.
pub const CHUNKS_PER_FETCH: usize = 2;
/// Fetches in flight, default and outer bound. Real objects are tiny: latency dominates.
pub const FETCHES_IN_FLIGHT: usize = 16;
/// Outer bound of the configurable number of fetches in flight.
pub const FETCHES_IN_FLIGHT_MAX: usize = 256;
/// Inflate window, bytes: DEFLATE looks back 32 KiB; twice that gives long contiguous pieces.
pub const INFLATE_WINDOW: usize = 64 * 1024;
/// Compressed bytes of one object. CloudTrail documents 50 MB.
pub const OBJECT_BYTES: u64 = 256 * 1024 * 1024;
/// Payload bytes of one records frame in the spool, unless a single record is larger.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Bytes of one spool segment file before the next one is begun.
pub const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that are written to find out whether a disk that refused something takes it again. Less room than this would
/// be used up by the next few objects.
pub const PROBE_BYTES: usize = 1024 * 1024;
/// Entries of the quarantine. What comes after is counted only; 4,096 heads without raw bytes are below 10 MiB.
pub const QUARANTINE_ENTRIES: u64 = 4096;
/// Broken records of one object that have entries of their own: one small object must not use up all there are. The rest
/// is counted, and still in the object in S3.
pub const QUARANTINE_RECORDS: u64 = 64;
/// Raw bytes of one entry, at most this fraction of the quarantine: one bad object must not push out all others.
pub const QUARANTINE_ENTRY_FRACTION: u64 = 4;
/// Bytes of the explanation kept with an entry.
pub const QUARANTINE_DETAIL_BYTES: usize = 512;
/// Bytes of a LIST answer's single XML event (a key of 1,024 bytes is at most 3,072 when URL-encoded).
pub const XML_EVENT_BYTES: usize = 8 * 1024;
/// Bytes of one LIST answer. 1,000 entries of the longest keys stay below.
pub const LIST_PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// New keys gathered from a listing before they are handed to the fetches.
pub const LISTED_KEYS: usize = 256;
/// Entries of a listing that are held until they are looked up: a page of S3's.
pub const LIST_PAGE_KEYS: usize = 1000;
/// Bytes of their names, without what all have in common. Names of log files need 70 each.
pub const LIST_PAGE_TEXT: usize = 128 * 1024;
/// Streams that are listed at once, all sources together, though one of each at least; and folders as many. With them
/// five thousand streams take a minute at 50 ms for each answer; each holds a page: 150 KiB at most, 90 of log files.
pub const LISTS_IN_FLIGHT: usize = 8;
/// Objects that wait for a fetch worker, all sources together; about 300 bytes each.
pub const QUEUED_OBJECTS: usize = 512;
/// Bytes kept of an error answer's body.
pub const ERROR_BODY_BYTES: usize = 8 * 1024;
/// Bytes that one connection reads ahead, and the longest answer head. The buffer doubles when it grows, so up
/// to twice as many are held. A TLS record is as long.
pub const HTTP_READ_BYTES: usize = 16 * 1024;
/// Elements inside elements in an XML answer. S3's own stay below 5.
pub const XML_DEPTH: usize = 8;
/// Objects in one group commit; about 350 bytes each.
pub const COMMIT_OBJECTS: usize = 512;
/// Bytes of one delivery batch, default.
pub const BATCH_BYTES: usize = 512 * 1024;
/// Records of one delivery batch, default.
pub const BATCH_RECORDS: usize = 2000;
/// Bytes of one frame that a RELP receiver may send. Its longest, the answer to `open`, has some 100.
pub const RELP_FRAME_BYTES: usize = 8 * 1024;
/// Messages that a RELP receiver has not acknowledged yet. librelp's own clients have 128; slow links want more.
pub const RELP_WINDOW: usize = 512;
/// Bytes of a syslog datagram: what IPv4 can carry. Source: RFC 5426, section 3.2.
pub const DATAGRAM_BYTES: usize = 65_507;
/// Least and most bytes of the configurable longest message. RFC 5424 wants every receiver to take 480.
pub const MESSAGE_BYTES_RANGE: (u64, u64) = (480, 16 * 1024 * 1024);
/// Bytes of a delivered line that is kept, to find out later whether a receiver that refuses one record still takes
/// another. Most records are shorter.
pub const CONTROL_BYTES: usize = 4 * 1024;
/// Entries that the ledger keeps in memory before it writes a sorted run. 16 bytes each.
pub const LEDGER_MEMORY_ENTRIES: usize = 8192;
/// Bytes of a configuration file.
pub const CONFIG_BYTES: u64 = 1024 * 1024;
/// Faults of a configuration that are shown; the rest is counted. More than one screen helps nobody.
pub const CONFIG_FAULTS: usize = 100;
/// Bytes of a file that holds a secret. AWS secret access keys have 40, bearer tokens a few thousand.
pub const SECRET_BYTES: u64 = 16 * 1024;
/// Bytes of an access key id. Source: IAM API Reference, AccessKey.
pub const ACCESS_KEY_ID_BYTES: usize = 128;
/// Bytes of an answer that holds credentials, or of what a `credential_process` prints. Session tokens have some 1,000
/// bytes, and AWS names 4,096 as unusual.
pub const CREDENTIALS_BYTES: usize = 16 * 1024;
/// Objects and arrays inside each other in such a document. Real ones have 1; the parser recurses into what it ignores.
pub const CREDENTIALS_DEPTH: usize = 8;
/// Bytes of a shared credentials or configuration file. Organisations with hundreds of accounts have some 50 KiB.
pub const PROFILES_BYTES: u64 = 512 * 1024;
/// Objects and arrays inside each other in answers of SQS and in its messages. Those of EventBridge have 5, and a relay may
/// add some.
pub const CONTROL_JSON_DEPTH: usize = 32;
/// Bytes of one answer of SQS: a message may have 1 MiB, which escapes of characters outside ASCII make three times as long.
pub const SQS_ANSWER_BYTES: usize = 3 * 1024 * 1024 + 64 * 1024;
/// Objects that one message of a queue may name. A message has at most 1 MiB, and a key of CloudTrail's some 130 bytes.
pub const MESSAGE_OBJECTS: usize = 8192;
/// Messages of one queue in work: enough to keep the fetches busy while others wait for the commit and the deletion.
pub const MESSAGES_IN_WORK: usize = 256;
/// Bytes of their texts beyond which no more are received. Most have 1 KiB.
pub const MESSAGE_BYTES_IN_WORK: usize = 1024 * 1024;
/// Receipts after which a message is set aside if its objects still fail. Longest apart, these are two days.
pub const MESSAGE_RECEIVES: u32 = 200;
/// Profiles that refer to each other by `source_profile`.
pub const PROFILE_CHAIN: usize = 8;
/// Bytes of a `credential_process` command.
pub const COMMAND_BYTES: usize = 4 * 1024;
/// Bytes of a file of trusted certificates. A distribution's whole bundle has about 220 KiB.
pub const CA_FILE_BYTES: u64 = 1024 * 1024;
/// Bytes of one compiled regex, and of the cache one search of it may grow to. Together they bound what a pattern costs.
pub const REGEX_BYTES: usize = 256 * 1024;
/// Bytes of all `exclude` regexes of one source together when compiled, and (counted apart) of those of its rules. The
/// cache of their searches may grow to as much.
pub const REGEX_SET_BYTES: usize = 1024 * 1024;
/// Bytes that the cache of one field's regexes may grow to at least, however many fields share the bound.
pub const REGEX_CACHE_BYTES: usize = 64 * 1024;
/// Record marks that are remembered to find duplicates, all sources together: 16 bytes each, and 8 of an index.
/// Parallel trails write an event twice within minutes; this is a quarter of an hour at 70 records a second kept.
pub const MARKS: usize = 65_536;
/// Marks in one file, and unsaved ones at which they are saved: so many records are read again after a crash.
pub const MARKS_IN_FILE: usize = 16_384;
/// Files of marks before they are written anew. Restarts make small ones.
pub const MARK_FILES: usize = 16;
/// `exclude` regexes of one source, and (counted apart) its rules.
pub const REGEXES_PER_SOURCE: usize = 256;
/// Bytes of everything before `AWSLogs/`. CloudTrail allows 200 for a trail's prefix; a copied bucket adds folders.
pub const PREFIX_BYTES: usize = 512;
/// Bytes of a rule's field path.
pub const FIELD_PATH_BYTES: usize = 256;
/// Least and most bytes of the configurable longest record: events are documented up to 256 KB.
pub const RECORD_BYTES_RANGE: (u64, u64) = (64 * 1024, SEGMENT_BYTES / 4);
/// Least bytes of the whole spool: the segment being written, two being read, one being removed.
pub const SPOOL_BYTES_MIN: u64 = 4 * SEGMENT_BYTES;
/// Least and most bytes of one delivery batch.
pub const BATCH_BYTES_RANGE: (u64, u64) = (4 * 1024, 8 * 1024 * 1024);
/// Most records of one delivery batch.
pub const BATCH_RECORDS_MAX: u64 = 100_000;
/// Bytes of a derived account, `NAME@DOMAIN`. AWS's names have at most 64, mail addresses 254 (RFC 5321, section 4.5.3.1).
pub const ACCOUNT_BYTES: usize = 512;
/// Bytes of the ARN or id beside it. A user's ARN holds a path of up to 512 and a name of up to 64.
pub const PRINCIPAL_BYTES: usize = 768;
/// Attributes of a directory's entries that are sent along, and (counted apart) those that accounts are matched with.
pub const DIRECTORY_ATTRIBUTES: usize = 8;
/// Bytes of an attribute's name. With `directory_` before it, it is a parameter's name of RFC 5424, which has 32.
pub const DIRECTORY_NAME_BYTES: usize = 22;
/// Bytes of a value that is sent along; a longer one is left out. Mail addresses have at most 254.
pub const DIRECTORY_VALUE_BYTES: usize = 320;
/// Bytes of a distinguished name in the configuration.
pub const DIRECTORY_DN_BYTES: usize = 1024;
/// Bytes of one message of a directory. An entry with eight values of the length above has 3 KiB; a group's `member` is
/// not asked for.
pub const DIRECTORY_MESSAGE_BYTES: usize = 64 * 1024;
/// Messages of one answer: entries (two at most are asked for) and references to other servers.
pub const DIRECTORY_MESSAGES: usize = 32;
/// Accounts that wait to be looked up. More are asked for again with their next record.
pub const DIRECTORY_WAITING: usize = 256;
/// Default and most entries of the cache.
pub const DIRECTORY_CACHE_ENTRIES: (u64, u64) = (4096, 65_536);
/// Bytes that the cache may take, whatever the entries: some 4,096 of usual length.
pub const DIRECTORY_CACHE_BYTES: usize = 1024 * 1024;
/// Longest wait for a batch to fill, seconds.
pub const BATCH_SECONDS: u64 = 3600;
/// Requests of one output on their way at once.
pub const CONCURRENCY_MAX: u64 = 64;
/// Bytes of one output's batches on their way at once: the default batch 64 times over, or four of the largest.
pub const IN_FLIGHT_BYTES: u64 = 32 * 1024 * 1024;
/// Headers that the configuration may add to a request.
pub const HEADERS: usize = 32;
/// Labels of a Loki stream. Source: Loki's default `max_label_names_per_series`.
pub const LABELS: usize = 15;
/// Bytes of a text that an HTTP output's receiver is told of every record: an index, a source type, a label's value.
pub const LABEL_BYTES: usize = 1024;
/// Bytes of a `_bulk` answer; it is read in passing. Two thousand items with long faults stay below 4 MiB.
pub const BULK_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Objects and arrays inside each other in a receiver's answer. Elasticsearch nests causes of faults, below 10.
pub const ANSWER_DEPTH: usize = 64;
/// Bytes of one line of the agent's own log: what a pipe takes in one piece (PIPE_BUF on Linux).
pub const LOG_LINE_BYTES: usize = 4096;
/// Runs of one source and day at which the ledger merges some. A look-up asks each of them; a merge reads as many at once.
pub const LEDGER_RUNS: usize = 8;
/// Runs that the ledger keeps open for look-ups.
pub const LEDGER_OPEN_RUNS: usize = 16;
/// Sources in the ledger's books, those that were removed from the configuration among them.
pub const LEDGER_SOURCES: usize = 1024;
/// Bytes in the name of a source or an output.
pub const NAME_BYTES: usize = 64;
/// Connections to the status server at once: a browser, a monitor, a health check, and some to spare.
pub const STATUS_CONNECTIONS: usize = 8;
/// Bytes of the head of a request to it. Browsers send below 2 KiB.
pub const STATUS_HEAD_BYTES: usize = 8 * 1024;
/// Bytes of one foreign text that it shows.
pub const STATUS_TEXT_BYTES: usize = 2 * 1024;
/// Sources whose last hours are kept; 600 bytes each.
pub const STATUS_HISTORIES: usize = 64;
/// Marks of when which part of the spool was committed; 24 bytes each.
pub const STATUS_MARKS: usize = 128;
/// Bytes of an answer that `trailspool status` reads: many times what a hundred sources need.
pub const STATUS_ANSWER_BYTES: u64 = 4 * 1024 * 1024;
/// Fewest characters of the token that a status server for other machines asks for.
pub const STATUS_TOKEN_CHARS: usize = 16;
/// How often the stages are looked at, or half of systemd's `WatchdogSec` when that is less.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time without an answer after which the run loop stands still. Nothing that it does itself may take long.
pub const STALL_LOOP: Duration = Duration::from_secs(60);
/// Time at work without a beat after which a stage stands still that works with the disk: a worn SD card takes tens of
/// seconds for one fsync.
pub const STALL_DISK: Duration = Duration::from_secs(180);
/// The same for a stage that works with the network: above the sum of its time-outs for one step, names, keys and
/// proxies included.
pub const STALL_NETWORK: Duration = Duration::from_secs(300);

const _: () = assert!(CHUNK_BYTES.is_power_of_two());
const _: () = assert!(INFLATE_WINDOW.is_power_of_two() && INFLATE_WINDOW >= 32 * 1024);
const _: () = assert!(FRAME_BYTES < RECORD_BYTES);
const _: () = assert!(SEGMENT_BYTES > 4 * RECORD_BYTES as u64);
const _: () = assert!(XML_EVENT_BYTES > 3 * KEY_BYTES);
const _: () = assert!(LIST_PAGE_TEXT >= KEY_BYTES && LISTED_KEYS <= LIST_PAGE_KEYS);
const _: () = assert!(QUEUED_OBJECTS >= FETCHES_IN_FLIGHT_MAX);
const _: () = assert!(FETCHES_IN_FLIGHT <= FETCHES_IN_FLIGHT_MAX);
const _: () = assert!(COMMIT_OBJECTS <= LEDGER_MEMORY_ENTRIES);
const _: () =
    assert!(RECORD_BYTES_RANGE.0 <= RECORD_BYTES as u64 && RECORD_BYTES as u64 <= RECORD_BYTES_RANGE.1);
const _: () = assert!(BATCH_BYTES_RANGE.0 <= BATCH_BYTES as u64 && BATCH_BYTES as u64 <= BATCH_BYTES_RANGE.1);
const _: () = assert!(BATCH_RECORDS as u64 <= BATCH_RECORDS_MAX);
const _: () = assert!(BATCH_BYTES_RANGE.1 <= IN_FLIGHT_BYTES);
const _: () = assert!(QUARANTINE_RECORDS < QUARANTINE_ENTRIES);
const _: () = assert!(PREFIX_BYTES < KEY_BYTES);
const _: () = assert!(XML_EVENT_BYTES <= CREDENTIALS_BYTES && SECRET_BYTES <= CREDENTIALS_BYTES as u64);
const _: () = assert!(LEDGER_RUNS >= 2 && LEDGER_OPEN_RUNS >= LEDGER_RUNS);
const _: () = assert!(LOOK_EVERY.as_secs() * 4 <= STALL_LOOP.as_secs());
const _: () = assert!(NAME_BYTES <= u8::MAX as usize);
const _: () = assert!("directory_".len() + DIRECTORY_NAME_BYTES <= 32);
const _: () = assert!(
    DIRECTORY_MESSAGE_BYTES > DIRECTORY_ATTRIBUTES * (DIRECTORY_VALUE_BYTES + DIRECTORY_NAME_BYTES + 16)
);
