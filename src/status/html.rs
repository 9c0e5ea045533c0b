//! A snapshot as the page `/`: one document, no script, no other file. Its one style sheet is inline and named by
//! its hash in the policy that goes with the page ([`policy`]), so markup that slipped in could load and run nothing.

use std::fmt::Write as _;

use base64_simd::STANDARD;
use sha2::{Digest, Sha256};

use super::escape::html as text;
use super::history::{SPAN, SPANS};
use super::snapshot::{Directory, Output, Snapshot, Source, State};
use super::text::{bytes, seconds, span};

const STYLE: &str = include_str!("page.css");
/// A browser asks again after this many seconds.
const REFRESH: u32 = 30;

/// Value of the Content-Security-Policy header that goes with the page.
pub fn policy() -> String {
    let hash = STANDARD.encode_to_string(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The page.
pub fn page(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(STYLE.len() + 8192);
    let faults = snapshot.faults();
    let (tone, word) = if faults.is_empty() { ("good", "Healthy") } else { ("bad", "Needs attention") };
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n<title>trailspool: {word}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>trailspool</h1>\n<span class=\"pill {tone}\">{word}</span>\n\
         <p>version {} · running for {} · as of {}</p>\n</header>\n<main>\n",
        text(snapshot.version),
        span(seconds(snapshot.now - snapshot.started)),
        moment(snapshot.now),
    );
    if !faults.is_empty() {
        out.push_str("<section class=\"faults\" aria-labelledby=\"faults\">\n<h2 id=\"faults\">To be mended</h2>\n<ul>\n");
        for fault in &faults {
            let _ = writeln!(out, "<li>{}</li>", text(fault));
        }
        out.push_str("</ul>\n</section>\n");
    }
    section(&mut out, "sources", "Sources", |out| {
        snapshot.sources.iter().for_each(|each| source(out, each, snapshot.now));
    });
    section(&mut out, "stores", "On this machine", |out| stores(out, snapshot));
    section(&mut out, "outputs", "Outputs", |out| {
        snapshot.outputs.iter().for_each(|each| output(out, each, snapshot.now));
    });
    let _ = write!(
        out,
        "</main>\n<footer>The same for programs: <a href=\"/status.json\">status.json</a>, \
         <a href=\"/metrics\">metrics</a>, <a href=\"/healthz\">healthz</a>. This page renews itself every {REFRESH} \
         seconds.</footer>\n</body>\n</html>\n"
    );
    out
}

fn section(out: &mut String, id: &str, title: &str, fill: impl FnOnce(&mut String)) {
    let _ = write!(
        out,
        "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n<div class=\"grid\">\n"
    );
    fill(out);
    out.push_str("</div>\n</section>\n");
}

fn source(out: &mut String, source: &Source, now: i64) {
    let (tone, word) = match (&source.trouble, source.warnings.is_empty(), source.newest) {
        (Some(trouble), ..) if trouble.transient => ("warn", "trying again"),
        (Some(_), ..) => ("bad", "in trouble"),
        (None, false, _) => ("warn", "warning"),
        (None, true, Some(_)) => ("good", "collecting"),
        (None, true, None) => ("plain", "nothing yet"),
    };
    let place = format!("s3://{}/{} · {}", source.bucket, source.prefix, source.region);
    title(out, &source.name, (tone, word), &place);
    let lag = source.lag(now).map_or_else(|| "–".to_owned(), span);
    figures(
        out,
        &[
            ("Behind", &lag),
            ("Objects", &number(source.objects())),
            ("Records", &number(source.books.counts.records)),
        ],
    );
    let counts = &source.books.counts;
    let parts: Vec<_> = [
        ("kept", counts.kept),
        ("dropped", counts.dropped),
        ("duplicate", counts.duplicate),
        ("quarantined", counts.quarantined),
    ]
    .into_iter()
    .map(|(what, count)| format!("{} {what}", number(count)))
    .collect();
    let _ = writeln!(out, "<p class=\"sums\">Records: {}</p>", parts.join(" · "));
    if !source.recent.is_empty() {
        out.push_str("<div class=\"trends\">\n");
        trend(out, "Objects", source.recent.iter().map(|span| span[0]));
        trend(out, "Records", source.recent.iter().map(|span| span[1]));
        out.push_str("</div>\n");
    }
    if let Some(backfill) = &source.backfill {
        note(out, "past", "The past is being collected", backfill);
    }
    if let Some(trouble) = &source.trouble {
        let since = format!("{} for {}", trouble.cause, span(seconds(now - trouble.since)));
        note(out, if trouble.transient { "warn" } else { "bad" }, &since, &trouble.text);
    }
    for (cause, words) in &source.warnings {
        note(out, "warn", cause, words);
    }
    out.push_str("</article>\n");
}

fn output(out: &mut String, output: &Output, now: i64) {
    let tone = match output.state {
        State::Idle => "plain",
        State::Sending => "good",
        State::Retrying { .. } => "warn",
        State::Holding { .. } => "bad",
    };
    title(out, &output.name, (tone, output.state.word()), output.kind);
    figures(
        out,
        &[
            ("Waiting", &number(output.waiting)),
            ("Delivered", &number(output.delivered)),
            ("Rejected", &number(output.rejected)),
        ],
    );
    if output.skipped > 0 {
        let words = "The spool was full and on_full is \"skip\": they are not delivered here.";
        note(out, "warn", &format!("{} records given up", number(output.skipped)), words);
    }
    if let (Some(reason), Some(words)) = (output.state.reason(), output.state.text()) {
        note(out, tone, &format!("{reason} for {}", span(seconds(now - output.since))), words);
    } else if let Some((moment, words)) = &output.last_error {
        note(out, "past", &format!("Last error, {} ago", span(seconds(now - moment))), words);
    }
    out.push_str("</article>\n");
}

fn stores(out: &mut String, snapshot: &Snapshot) {
    let spool = &snapshot.spool;
    let state = match (&spool.disk_fault, spool.full) {
        (Some(_), _) => ("bad", "disk fault"),
        (_, true) => ("warn", "full"),
        _ => ("good", "open"),
    };
    title(out, "Spool", state, "kept records on their way to the outputs");
    let oldest = if spool.oldest == 0 { "–".to_owned() } else { span(spool.oldest) };
    let on_the_way = number(spool.queued + spool.in_work);
    figures(
        out,
        &[("On disk", &bytes(spool.used)), ("Oldest waits", &oldest), ("Objects coming", &on_the_way)],
    );
    bar(out, spool.used, spool.max);
    match (&spool.disk_fault, spool.full) {
        (Some(fault), _) => note(out, "bad", "Fetching pauses", fault),
        (_, true) => {
            note(
                out,
                "warn",
                "Fetching pauses",
                "It goes on when the outputs have taken something. Nothing is lost.",
            );
        }
        _ => {}
    }
    out.push_str("</article>\n");
    let quarantine = &snapshot.quarantine;
    let state = if quarantine.entries == 0 { ("good", "empty") } else { ("warn", "to be looked at") };
    title(out, "Quarantine", state, "what could not be read or delivered, with its bytes");
    let counted = number(quarantine.only_counted);
    figures(
        out,
        &[
            ("Entries", &number(quarantine.entries)),
            ("On disk", &bytes(quarantine.bytes)),
            ("Only counted", &counted),
        ],
    );
    bar(out, quarantine.bytes, quarantine.max);
    out.push_str("</article>\n");
    if let Some(each) = &snapshot.directory {
        directory(out, each, snapshot.now);
    }
}

fn directory(out: &mut String, directory: &Directory, now: i64) {
    let state = match &directory.trouble {
        Some(trouble) if trouble.transient => ("warn", "trying again"),
        Some(_) => ("bad", "in trouble"),
        None => ("good", "asked"),
    };
    title(out, "Directory", state, &directory.place);
    let of =
        |result: &str| directory.lookups.iter().find(|(name, _)| *name == result).map_or(0, |found| found.1);
    let (found, absent) = (number(of("found")), number(of("absent")));
    figures(out, &[("Found", &found), ("Not there", &absent), ("Kept", &number(directory.cached))]);
    if let Some(trouble) = &directory.trouble {
        let since = format!("{} for {}", trouble.cause, span(seconds(now - trouble.since)));
        note(out, if trouble.transient { "warn" } else { "bad" }, &since, &trouble.text);
    }
    out.push_str("</article>\n");
}

/// Begins an article.
fn title(out: &mut String, name: &str, (tone, word): (&str, &str), place: &str) {
    let _ = write!(
        out,
        "<article>\n<div class=\"title\"><h3>{}</h3><span class=\"pill {tone}\">{word}</span></div>\n\
         <p class=\"where\">{}</p>\n",
        text(name),
        text(place)
    );
}

fn figures(out: &mut String, figures: &[(&str, &str)]) {
    out.push_str("<dl class=\"figures\">\n");
    for (name, value) in figures {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", text(value));
    }
    out.push_str("</dl>\n");
}

fn note(out: &mut String, tone: &str, head: &str, words: &str) {
    let _ = writeln!(out, "<p class=\"note {tone}\"><strong>{}</strong>{}</p>", text(head), text(words));
}

/// A span of time a column, the newest at the right.
fn trend(out: &mut String, what: &str, columns: impl Iterator<Item = u32> + Clone) {
    const HIGH: u64 = 32;
    let most = u64::from(columns.clone().max().unwrap_or(0));
    let sum: u64 = columns.clone().map(u64::from).sum();
    let count = columns.clone().count();
    let hours = span(count.saturating_sub(1) as u64 * SPAN);
    let when = if count > 1 { format!("last {hours}") } else { "since the start".to_owned() };
    let wide = (SPANS + 1) * 4;
    let _ = write!(
        out,
        "<figure><figcaption>{what}, {when}</figcaption><svg class=\"trend\" viewBox=\"0 0 {wide} {HIGH}\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{what}, {when}: {} in all, at most {} in {} minutes\">\
         <line x1=\"0\" y1=\"{HIGH}\" x2=\"{wide}\" y2=\"{HIGH}\"/>",
        number(sum),
        number(most),
        SPAN / 60
    );
    for (n, value) in columns.enumerate() {
        if value > 0 {
            let high = (u64::from(value) * HIGH).div_ceil(most).max(1);
            let x = (SPANS + 1 - count.min(SPANS + 1) + n) * 4;
            let _ = write!(out, "<rect x=\"{x}\" y=\"{}\" width=\"3\" height=\"{high}\"/>", HIGH - high);
        }
    }
    out.push_str("</svg></figure>\n");
}

fn bar(out: &mut String, used: u64, most: u64) {
    // Of a thousand; what is there shows.
    let part = (u128::from(used) * 1000).checked_div(u128::from(most)).unwrap_or(0).min(1000);
    let part = if used > 0 { part.max(4) } else { 0 };
    let at_most = if part >= 900 { " at-most" } else { "" };
    let _ = writeln!(
        out,
        "<svg class=\"bar{at_most}\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{} of {}\">\
         <rect class=\"track\" width=\"1000\" height=\"10\"/><rect class=\"part\" width=\"{part}\" height=\"10\"/></svg>\n\
         <p class=\"sums\">{} of {}</p>",
        bytes(used),
        bytes(most),
        bytes(used),
        bytes(most)
    );
}

/// Digits in groups of three, with narrow spaces that do not break.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn moment(seconds: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!(
            "<time datetime=\"{0}T{1}Z\">{0} {1} UTC</time>",
            at.date(),
            format_args!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
        ),
        Err(_) => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::rich;
    use super::*;

    #[test]
    fn markup_in_keys_and_errors_stays_text() {
        let page = page(&rich());
        assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>"), "{page}");
        assert_eq!(page.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;\\n\\u{202e}").count(), 4);
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        for snapshot in [rich(), Snapshot::default()] {
            let page = page(&snapshot);
            for part in ["<script", " style=", "http://", "https://", " on", "url("] {
                let inert = page.replace("onerror", "").replace(" on ", " ").replace(" one", "");
                assert!(part == " on" || !page.contains(part), "{part}");
                assert!(part != " on" || !inert.contains(" onload") && !inert.contains(" onclick"), "{part}");
            }
            assert_eq!(open_elements(&page), [""; 0]);
        }
    }

    /// Elements that are opened and not closed, or closed in the wrong order.
    fn open_elements(page: &str) -> Vec<String> {
        const VOID: [&str; 5] = ["meta", "link", "line", "rect", "br"];
        let mut open: Vec<String> = Vec::new();
        for tag in page.split('<').skip(2) {
            let name: String =
                tag.trim_start_matches('/').chars().take_while(|c| c.is_alphanumeric()).collect();
            if tag.starts_with('/') {
                if open.pop().as_deref() != Some(&*name) {
                    open.push(format!("/{name}"));
                    return open;
                }
            } else if !VOID.contains(&&*name) {
                open.push(name);
            }
        }
        open
    }

    /// Pages for eyes, and for a browser's checks: `.ci/run` takes pictures of them.
    #[test]
    #[ignore = "writes files below target/ci"]
    fn pages_of_every_state_are_written() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/status");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, snapshot) in [("trouble", trouble()), ("healthy", healthy()), ("fresh", fresh())] {
            std::fs::write(dir.join(format!("{name}.html")), page(&snapshot)).unwrap();
        }
    }

    /// Two sources and two outputs at work, a day and a half after the start.
    fn healthy() -> Snapshot {
        let mut snapshot = rich();
        snapshot.started = snapshot.now - 131_000;
        snapshot.sources[1].trouble = None;
        snapshot.sources[1].warnings.clear();
        for (n, source) in snapshot.sources.iter_mut().enumerate() {
            source.newest = Some(snapshot.now - 190 - 400 * n as i64);
            source.books.objects_collected = 48_211 + 1_000_000 * n as u64;
            source.books.counts.records = 1_204_998;
            source.books.counts.kept = 1_100_000;
            source.recent = (0..=SPANS as u32)
                .map(|n| 6 + (n * 7919 % 13) + if n % 24 < 4 { 20 } else { 0 })
                .map(|objects| [objects, objects * 23 + objects % 5 * 31])
                .collect();
        }
        let output = &mut snapshot.outputs[0];
        output.state = State::Sending;
        output.delivered = 1_099_958;
        output.waiting = 42;
        output.last_error = Some((
            snapshot.now - 5_000,
            "POST https://siem.example.com/ingest: connection refused: is the receiver running?".to_owned(),
        ));
        let mut file = output.clone();
        (file.name, file.kind, file.state, file.waiting) = ("archive".into(), "file", State::Idle, 0);
        file.last_error = None;
        snapshot.outputs.push(file);
        snapshot.spool.used = 700 << 20;
        snapshot.quarantine.entries = 0;
        snapshot.quarantine.bytes = 0;
        snapshot
    }

    /// Nothing collected yet.
    fn fresh() -> Snapshot {
        let mut snapshot =
            Snapshot { version: "9.9.9", now: 1_780_000_003, started: 1_780_000_000, ..rich() };
        snapshot.sources.truncate(1);
        let source = &mut snapshot.sources[0];
        (source.books, source.newest, source.recent) = (Default::default(), None, vec![[0, 0]]);
        snapshot.outputs[0] =
            Output { name: "siem".into(), kind: "http", since: 1_780_000_000, ..Output::default() };
        snapshot.spool = super::super::snapshot::Spool { max: 2 << 30, ..Default::default() };
        snapshot.quarantine = super::super::snapshot::Quarantine { max: 64 << 20, ..Default::default() };
        snapshot
    }

    /// Everything that can be wrong, with texts as long as they get.
    fn trouble() -> Snapshot {
        let mut snapshot = rich();
        let key = format!("s3://acme-cloudtrail/{}", "a-folder-with-a-long-name/".repeat(8));
        let trouble = snapshot.sources[1].trouble.as_mut().unwrap();
        trouble.text = format!(
            "reading {key}: AccessDenied: User: arn:aws:iam::111122223333:user/trailspool is not authorized to perform: \
             s3:GetObject; allow s3:GetObject on it: `trailspool policy` prints the statement <b>and</b> \u{202e}more"
        );
        snapshot.sources[0].trouble = Some(super::super::snapshot::Trouble {
            cause: "slow-down",
            text: "listing bucket acme-cloudtrail: 503 SlowDown: tried again by itself".to_owned(),
            transient: true,
            since: snapshot.now - 90,
        });
        snapshot.outputs[0].state = State::Holding {
            text: "POST https://siem.example.com/ingest answers 401: check bearer_token_file".to_owned(),
        };
        snapshot.spool.used = snapshot.spool.max;
        snapshot.spool.full = true;
        snapshot.stalled.push("storekeeper stands still for 130 s".to_owned());
        snapshot
    }

    #[test]
    fn the_policy_names_the_style_sheet_of_the_page() {
        let page = page(&rich());
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        assert!(policy().contains(&STANDARD.encode_to_string(Sha256::digest(style))));
    }

    #[test]
    fn a_bar_shows_what_is_there_and_never_more_than_all() {
        let width = |used, most| {
            let mut out = String::new();
            bar(&mut out, used, most);
            out.split("class=\"part\" width=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .parse::<u32>()
                .unwrap()
        };
        assert_eq!(
            [width(0, 10), width(1, u64::MAX), width(5, 10), width(20, 10), width(1, 0)],
            [0, 4, 500, 1000, 4]
        );
    }
}
