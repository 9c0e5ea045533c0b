//! What listings cost: pages parsed in a second of CPU time, and the memory that a poll takes for more keys and more
//! streams. A listing that is a thousand times as long should take no more.
//!
//! `cargo bench --bench listing`

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use time::{Date, UtcDateTime};
use trailspool::aws::Fault;
use trailspool::aws::listing::read_pieces;
use trailspool::aws::s3::{ListEnd, ListRequest, Listed};
use trailspool::config::{self, Source};
use trailspool::discover::poll::Poller;
use trailspool::discover::queue::Queue;
use trailspool::discover::status::SourceStatus;
use trailspool::discover::walk::{Known, Lister};
use trailspool::spool::std_disk::StdDisk;

use common::agent::{Home, Setup, stdout_output};
use common::bucket::{Bucket, yesterday};
use common::s3_server::{Faults, S3Server};

fn main() {
    parse();
    println!("memory of a poll (highest resident set of the process so far):");
    for (streams, keys) in [(1, 1000), (50, 50_000), (1, 1_000_000), (5000, 1_000_000)] {
        poll(streams, keys);
    }
}

/// Pages as S3 sends them, in pieces as TLS records come.
fn parse() {
    let mut page = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>acme</Name><Prefix>AWSLogs/</Prefix><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>\
         <EncodingType>url</EncodingType>",
    );
    for number in 0..1000 {
        let key = key("AWSLogs/111122223333/CloudTrail/us-east-1/", number, 1000);
        let _ = write!(
            page,
            "<Contents><Key>{key}</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>841</Size><StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    page.push_str("</ListBucketResult>");
    let best = (0..9)
        .map(|_| {
            let begin = cpu();
            for _ in 0..20 {
                let mut keys = 0;
                let end = read_pieces(page.as_bytes().chunks(16 * 1024), true, &mut |_| {
                    keys += 1;
                    ControlFlow::Continue(())
                });
                assert_eq!((end, keys), (Ok(ListEnd::Complete), 1000));
            }
            (cpu() - begin) / 20
        })
        .min()
        .expect("rounds");
    println!(
        "parsing: {:.0} pages of 1,000 keys ({} bytes) a CPU-second",
        1.0 / best.as_secs_f64(),
        page.len()
    );
}

/// A bucket of so many streams with so many keys in all, none of which exists before it is asked for.
struct Generated {
    streams: usize,
    keys: usize,
}

/// The ledger knows them all.
#[derive(Clone)]
struct All;

impl Known for All {
    fn contains(&self, _: &str, _: Date, _: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(true)
    }
    fn expire(&self, _: &str, _: Date) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

const REGIONS: usize = 20;

impl Lister for Generated {
    async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        let depth = request.prefix.matches('/').count();
        let folders: Vec<String> = match depth {
            1 => (0..self.streams.div_ceil(REGIONS)).map(|n| format!("{n:012}/")).collect(),
            2 => vec!["CloudTrail/".to_owned()],
            3 => (0..self.streams.min(REGIONS)).map(|n| format!("xx-east-{n}/")).collect(),
            _ => return Ok(self.keys_of(request, visit)),
        };
        for folder in folders {
            let _ = visit(Listed::Prefix(&format!("{}{folder}", request.prefix)));
        }
        Ok(ListEnd::Complete)
    }
}

impl Generated {
    fn keys_of(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> ListEnd {
        let all = self.keys / self.streams;
        let first: usize = request.continuation.map_or(0, |token| token.parse().expect("a token"));
        for number in first..all.min(first + 1000) {
            if visit(Listed::Key { key: &key(request.prefix, number, all), size: 841 }).is_break() {
                return ListEnd::Stopped;
            }
        }
        match first + 1000 < all {
            true => ListEnd::More { continuation: (first + 1000).to_string().into() },
            false => ListEnd::Complete,
        }
    }
}

/// The keys of a stream, in their order over a day.
fn key(stream: &str, number: usize, all: usize) -> String {
    let parts: Vec<&str> = stream.split('/').collect();
    let (account, region) = (parts[1], parts[3]);
    let day = yesterday();
    let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
    let label = number * 288 / all;
    let (hour, minute) = (label / 12, label % 12 * 5);
    format!(
        "{stream}{y}/{m:02}/{d:02}/{account}_CloudTrail_{region}_{y}{m:02}{d:02}T{hour:02}{minute:02}Z_{number:016}.json.gz"
    )
}

fn poll(streams: usize, keys: usize) {
    let home = Home::new();
    let source = a_source(&home);
    let disk = StdDisk::open(home.path("poll").as_path()).expect("a folder");
    let status = Arc::new(SourceStatus::new("prod"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let begin = cpu();
    let report = runtime.block_on(async {
        let queue = (Queue::new(1, 512), 0);
        let bucket = Generated { streams, keys };
        Poller::new(&source, bucket, All, disk, queue, status).pass(UtcDateTime::now()).await
    });
    let spent = cpu() - begin;
    assert!(report.is_complete(), "{report:?}");
    println!(
        "  {:>9} keys in {:>5} streams: {:>6} LIST requests, {:.2} s of CPU (generating them included), {:>6} KiB",
        report.seen.listed,
        report.seen.streams,
        report.seen.list_requests,
        spent.as_secs_f64(),
        peak()
    );
}

fn a_source(home: &Home) -> Source {
    let bucket = Bucket { name: "acme".into(), prefix: String::new(), objects: Vec::new() };
    let server = S3Server::start(&bucket, Faults::default());
    home.configure(&Setup::new(&server, "acme", stdout_output("screen")));
    std::fs::create_dir_all(home.path("poll")).expect("a folder");
    config::load(&home.path("trailspool.toml")).expect("a configuration").sources.remove(0)
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock").into()
}

fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("KiB")
}
