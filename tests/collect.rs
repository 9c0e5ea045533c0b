//! The front half of the path against the failing S3 server: every page of every listing, every object over
//! as many GETs as it takes, decoded, and compared with what the bucket holds. Configured from the same file
//! as the whole program is.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;

use common::agent::{Home, Setup, stdout_output};
use common::bucket::{Bucket, Damage, Fate, Object, Plan, yesterday};
use common::s3_server::{Faults, S3Server};
use trailspool::aws::credentials::Provider;
use trailspool::aws::s3::{ListEnd, ListRequest, Listed, S3};
use trailspool::decode::{Broken, Decoder, Record, Sink};
use trailspool::fetch::{BodyReader, Slot, fetch};
use trailspool::limits::{OBJECT_BYTES, RECORD_BYTES};

/// What the decoder made of an object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    records: Vec<Vec<u8>>,
    broken: Vec<(u32, Broken)>,
    refused: bool,
}

impl Sink for Decoded {
    type Error = std::convert::Infallible;
    fn record(&mut self, _: u32, record: Record<'_>) -> Result<(), Self::Error> {
        self.records.push(record.bytes.to_vec());
        Ok(())
    }
    fn broken(&mut self, index: u32, why: Broken, _: &[u8], last: bool) -> Result<(), Self::Error> {
        self.broken.extend(last.then_some((index, why)));
        Ok(())
    }
}

fn decode(mut body: BodyReader) -> Decoded {
    let (mut decoder, mut decoded) = (Decoder::new(RECORD_BYTES, OBJECT_BYTES), Decoded::default());
    decoder.start();
    while let Some(bytes) = body.next().expect("the rest of a body that was begun") {
        if decoder.feed(bytes, &mut decoded).is_err() {
            return Decoded { refused: true, ..Decoded::default() };
        }
    }
    match decoder.finish(&mut decoded) {
        Ok(_) => decoded,
        Err(_) => Decoded { refused: true, ..Decoded::default() },
    }
}

/// Every key behind a prefix. A page that fails is asked for again.
async fn list(s3: &S3, prefix: &str) -> BTreeMap<String, u64> {
    let (mut keys, mut continuation) = (BTreeMap::new(), None::<Box<str>>);
    let mut failures = 0;
    loop {
        let request = ListRequest {
            prefix,
            continuation: continuation.as_deref(),
            max_keys: Some(97),
            ..ListRequest::default()
        };
        let mut visit = |listed: Listed<'_>| {
            match listed {
                Listed::Key { key, size } => drop(keys.insert(key.to_owned(), size)),
                other => panic!("{other:?} in a flat listing"),
            }
            ControlFlow::Continue(())
        };
        match s3.list(&request, &mut visit).await {
            Ok(ListEnd::More { continuation: next }) => continuation = Some(next),
            Ok(ListEnd::Complete) => return keys,
            Ok(ListEnd::Stopped) => panic!("nobody stopped the listing"),
            Err(fault) => {
                failures += 1;
                assert!(fault.is_transient() && failures < 50, "{fault:?}");
            }
        }
    }
}

/// The object as decoded on a thread of its own. A fetch that gives up is begun again, as the next poll would.
async fn collect(s3: &S3, key: &str, slot: &mut Slot) -> Decoded {
    for _ in 0..5 {
        let mut decoding = None;
        let fetched = fetch(s3, key, slot, |body| decoding = Some(thread::spawn(move || decode(body)))).await;
        match (fetched, decoding) {
            (Ok(()), Some(decoding)) => return decoding.join().expect("the decoder does not panic"),
            (Err(fault), _) if fault.is_transient() => {}
            (fetched, _) => panic!("{key}: {fetched:?}"),
        }
    }
    panic!("{key} was not fetched in five times four tries");
}

fn expected(object: &Object) -> Decoded {
    Decoded {
        records: object.readable().map(|record| record.to_vec()).collect(),
        broken: object.overlong.iter().map(|&index| (index as u32, Broken::TooLong)).collect(),
        refused: object.fate == Fate::Quarantined,
    }
}

#[tokio::test]
async fn everything_comes_through_a_failing_server_as_it_stands_in_the_bucket() {
    let bucket = Bucket::generate(&Plan {
        prefix: "lögs a+b/%41/",
        objects: 300,
        damaged: 4,
        overlong: Some(RECORD_BYTES),
        rewritten: true,
        ..Plan::small(21, yesterday())
    });
    let server = S3Server::start(&bucket, Faults::rough(22));
    let home = Home::new();
    let folder = format!("{}/{}", bucket.name, bucket.prefix);
    home.configure(&Setup::new(&server, &folder, stdout_output("stdout")));
    let config =
        trailspool::config::load(&home.path("trailspool.toml")).expect("a configuration without faults");
    let source = &config.sources[0];
    assert_eq!(*source.prefix, *bucket.prefix);
    let client = trailspool::net::Client::new(Default::default()).expect("a client");
    let s3 = S3::new(source, client.clone(), Provider::new(source, client));

    let listed = list(&s3, &source.prefix).await;
    let there: BTreeMap<String, u64> = bucket.early().map(|o| (o.key.clone(), o.body.len() as u64)).collect();
    assert!(listed == there, "the listing is that of the bucket");

    let mut slot = Slot::new();
    for object in bucket.early().filter(|o| o.fate != Fate::Ignored) {
        assert!(
            collect(&s3, &object.key, &mut slot).await == expected(object),
            "{}: {}",
            object.what,
            object.key
        );
    }
    let stats = server.stats();
    assert!(stats.faults() > 30, "{:?}", stats.injected);
    assert_eq!(stats.refused, [""; 0]);
}

#[test]
fn each_kind_of_damage_is_one() {
    for damage in [Damage::Crc, Damage::Cut, Damage::Garbage, Damage::Json] {
        let bucket = Bucket::generate(&Plan::small(23, yesterday()));
        let mut object = bucket.objects[0].clone();
        object.damage(damage);
        let mut decoder = Decoder::new(RECORD_BYTES, OBJECT_BYTES);
        let mut decoded = Decoded::default();
        decoder.start();
        let refused =
            decoder.feed(&object.body, &mut decoded).is_err() || decoder.finish(&mut decoded).is_err();
        assert!(refused, "{}", object.what);
    }
}
