//! trailspool fetches AWS CloudTrail log objects from S3, inflates and filters their records, spools
//! them to disk and forwards them until each is acknowledged.
//!
//! # The path of a record
//!
//! ```text
//!  discover ──► fetch ──► decode ─────────────► select ──► spool ──► deliver
//!  which object  signed    gunzip ► split         rules      one log    one cursor
//!  is next?      GET       fixed buffers          baseline   on disk    per output
//!     ▲                                                        │            │
//!     └── ledger: "these objects are in the spool" ◄───────────┘            └─► reclaim segments
//! ```
//!
//! The modules below stand in that order. *Cores* (`discover::{cost, key, message, slice, window}`, `decode`,
//! `select` without `dry_run` and `remembered`, `spool::frame`, `spool::pack`, `deliver::{batch, encoding, format, gzip,
//! lines, relp::frame, syslog, unconfirmed}`, `deliver::http::{body, bulk, encode, hec, loki}`, `aws::fault`,
//! `aws::partition`,
//! `aws::credentials::{document, ini, refresh}`, `directory::{cache, entry, message}`, `net::backoff`, `net::clock`, `net::issuer`, `net::proxy`, `net::window`,
//! `status::{html, json, metrics, request, snapshot, text}`,
//! `doctor::advice`, `doctor::finding`, `doctor::policy`, `doctor::queue`, `doctor::report`,
//! `pulse`, `service::watchdog`) take bytes, events and `now`, and return
//! values or actions: they do no I/O and read no clock. The shells around them do what they decide.
//! `tests/boundary.rs` holds that line.
//!
//! # Invariants
//!
//! Each with the tests that would break.
//!
//! 1. **Nothing selected is lost**: every kept record reaches every output at least once, whatever crashes.
//!    `test:a_hundred_kills_lose_nothing_and_invent_nothing`,
//!    `test:histories_with_power_cuts_and_errors_agree_with_a_list`,
//!    `test:a_kept_record_is_kept_once_wherever_the_power_is_cut` (duplicates),
//!    `test:kills_lose_no_event_and_let_no_duplicate_through`
//! 2. **An object enters the spool whole or not at all**: exactly once into the spool, also across crashes.
//!    `test:a_long_history_survives_a_cut_at_every_step_into_every_disk_it_can_leave`,
//!    `test:an_ordinary_history_survives_a_cut_at_every_step`, `test:a_short_history_survives_a_cut_at_every_byte`,
//!    `test:a_power_cut_at_every_step_loses_and_invents_nothing` (the ledger),
//!    `test:wazuh_33108_whatever_arrives_however_late_is_in_the_spool_exactly_once` (what is collected, and when)
//! 3. **Nothing is acknowledged upstream before it is durable here**: no ledger entry, and no message of a queue deleted,
//!    before the fsync that covers the object's `end` frame (only [`spool::Committed`] makes one); no segment deleted
//!    before every output acknowledged it. `test:an_ordinary_history_survives_a_cut_at_every_step`,
//!    `test:a_message_is_deleted_when_its_last_object_is_done_and_not_before`,
//!    `test:a_message_stays_as_long_as_one_of_its_objects_cannot_be_read`,
//!    `test:a_failing_server_and_a_failing_receiver_delay_but_lose_nothing`
//! 4. **The books balance**: for each object `records = kept + dropped + duplicate + quarantined`, checked as it
//!    ends. `test:the_books_are_checked_as_an_object_ends`, `test:a_hundred_kills_lose_nothing_and_invent_nothing`
//! 5. **Bytes are evidence**: a record is forwarded byte for byte as CloudTrail wrote it; what the agent adds goes
//!    around it. `test:real_records_arrive_byte_for_byte`, `test:the_envelope_goes_around_the_record`,
//!    `test:a_clean_run_forwards_every_record_byte_for_byte_and_once`,
//!    `test:every_preset_delivers_ten_thousand_records_byte_for_byte` (where an API wants a string, as Loki does, it is
//!    escaped and unescapes to the same bytes)
//! 6. **Memory is set by the configuration, not by the input**.
//!    `test:one_large_object_and_many_small_ones_take_the_same_memory`, `test:a_bomb_is_stopped_at_the_bound`
//! 7. **Bad input never wedges and never vanishes**: a broken object or record is set aside with its raw bytes,
//!    counted and reported; the rest goes on. A rule that cannot read a field keeps the record.
//!    `test:a_damaged_object_is_set_aside_with_its_bytes_and_the_rest_goes_on`,
//!    `test:a_bad_line_among_good_ones_is_set_aside_alone`,
//!    `test:a_flipped_bit_at_every_byte_is_found_and_costs_no_more_than_it_must`,
//!    `test:a_receiver_with_a_size_limit_and_a_dislike_gets_all_but_one_record`
//! 8. **Full is a state**: a full spool, disk or output pauses fetching and shows; nothing is dropped, but by an
//!    output that is told to (`on_full = "skip"`), and counted.
//!    `test:an_output_that_is_down_holds_no_other_and_may_give_up_records`,
//!    `test:a_full_spool_pauses_fetching_and_loses_nothing`,
//!    `test:a_full_disk_in_the_middle_of_an_object_loses_and_repeats_nothing`,
//!    `test:a_disk_without_room_pauses_and_loses_nothing`, `test:a_file_system_that_turns_read_only_pauses_and_loses_nothing`
//! 9. **The watchdog is petted by progress**, not by a timer: a stage that has work and does not come on is named,
//!    and ends in a restart; idle and waiting are states. `test:a_stall_is_work_without_a_sign_of_life`,
//!    `test:a_stage_that_stands_still_is_named_and_no_longer_petted_and_nothing_is_lost`
//! 10. **Secrets stay in**: never in logs, errors, status, core dumps or the spool.
//!     `test:an_unknown_access_key_ends_with_77_and_the_secret_is_not_shown`,
//!     `test:a_token_that_cannot_be_sent_is_said_but_not_shown`,
//!     `test:the_manager_hears_of_the_start_the_progress_a_reload_and_the_stop` (no core files)

// In the order of the path.
pub mod discover;

pub mod fetch;

pub mod decode;

pub mod select;

pub mod spool;

pub mod deliver;

pub mod service;
pub mod status;

pub mod aws;
pub mod directory;
pub mod net;

pub mod doctor;
pub mod inspect;

pub mod cli;
pub mod config;
pub mod error;
pub mod limits;
pub mod pulse;
pub mod record;

// The tests' disk is written against the public names, so that unit tests and integration tests share it.
#[cfg(test)]
extern crate self as trailspool;
#[cfg(test)]
#[path = "../tests/common/fault_disk.rs"]
mod fault_disk;
