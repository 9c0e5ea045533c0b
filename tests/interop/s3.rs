//! Against a real S3 server, any: `TRAILSPOOL_TEST_S3_ENDPOINT` (e.g. `http://127.0.0.1:8014`), `…_ACCESS_KEY`,
//! `…_SECRET_KEY` and `…_BUCKET` (made if it is not there; objects below `trailspool-test/` are overwritten).
//! `…_UNSIGNED=1` leaves out what a server that verifies no signatures cannot show. Without them it says so and passes. `s3s_fs.sh` beside it runs it against s3s-fs.
#![allow(clippy::disallowed_methods, reason = "a test's configuration is its environment")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::Request;
use trailspool::aws::credentials::Provider;
use trailspool::aws::s3::{ListEnd, ListRequest, Listed, S3};
use trailspool::aws::{Class, Fault};
use trailspool::config::{self, Credentials, Endpoint, Secret, Source};
use trailspool::fetch::{self, BodyReader, Slot};
use trailspool::{limits, net};

const FOLDER: &str = "trailspool-test/";

/// Names after the folder. Some servers keep keys as files: so none here is a folder of another.
const ODD: &[&str] = &[
    "a space",
    "plus+plus",
    "per%cent",
    "%2B%20",
    "umläut/日本.json.gz",
    "k=v&w=x",
    "amp&amp;<tag>\"q'",
    "dots./trailing.",
    "q?mark#hash",
    "t~i!l*d(e)",
];

struct Server {
    endpoint: Endpoint,
    access_key: String,
    secret_key: String,
    bucket: String,
}

impl Server {
    fn from_environment() -> Option<Server> {
        let variable = |name| std::env::var(format!("TRAILSPOOL_TEST_S3_{name}")).ok();
        let uri: http::Uri = variable("ENDPOINT")?.parse().expect("TRAILSPOOL_TEST_S3_ENDPOINT is a URL");
        Some(Server {
            endpoint: Endpoint {
                tls: uri.scheme_str() == Some("https"),
                host: uri.host().expect("a host").into(),
                port: uri.port_u16(),
                path_style: true,
            },
            access_key: variable("ACCESS_KEY").expect("TRAILSPOOL_TEST_S3_ACCESS_KEY"),
            secret_key: variable("SECRET_KEY").expect("TRAILSPOOL_TEST_S3_SECRET_KEY"),
            bucket: variable("BUCKET").expect("TRAILSPOOL_TEST_S3_BUCKET"),
        })
    }

    fn s3(&self, secret_key: &str) -> S3 {
        let text = format!(
            "[[source]]\nname = \"interop\"\nbucket = {:?}\nregion = \"us-east-1\"\n[source.credentials]\nmethod = \
             \"ec2-role\"\n[[output]]\nname = \"out\"\nkind = \"stdout\"\n",
            self.bucket
        );
        let config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
        let credentials = Credentials::IamUser {
            access_key_id: self.access_key.clone().into(),
            secret_access_key: Secret::new(secret_key.into()),
        };
        let source = config.sources.into_iter().next().unwrap();
        let source = Source { endpoint: self.endpoint.clone(), credentials, ..source };
        let client = net::Client::new(Default::default()).unwrap();
        S3::new(&source, client.clone(), Provider::new(&source, client))
    }

    /// PUT, with a signature of its own: the agent never writes.
    async fn put(&self, path: &str, body: &[u8]) -> http::StatusCode {
        let Endpoint { tls, host, port, .. } = &self.endpoint;
        let scheme = if *tls { "https" } else { "http" };
        let authority = port.map_or(host.to_string(), |port| format!("{host}:{port}"));
        let mut encoded = String::new();
        for byte in path.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    encoded.push(byte.into())
                }
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        let uri = format!("{scheme}://{authority}/{}{encoded}", self.bucket);
        let identity =
            aws_credential_types::Credentials::new(&*self.access_key, &*self.secret_key, None, None, "test")
                .into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mut request =
            Request::put(&uri).header("host", &authority).body(Bytes::copy_from_slice(body).into()).unwrap();
        let headers = [("host", &*authority)].into_iter();
        let signable = SignableRequest::new("PUT", &uri, headers, SignableBody::Bytes(body)).unwrap();
        sign(signable, &params).unwrap().into_parts().0.apply_to_request_http1x(&mut request);
        let answer = net::Client::new(Default::default()).unwrap().request(request).await.unwrap();
        let status = answer.status();
        let said = answer.into_body().read_at_most(4096).await.unwrap();
        if !status.is_success() && !path.is_empty() {
            panic!("PUT {path}: {status} {}", String::from_utf8_lossy(&said));
        }
        status
    }
}

async fn list(
    s3: &S3,
    request: &ListRequest<'_>,
) -> Result<(Vec<(String, u64)>, Vec<String>, ListEnd), Fault> {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let end = s3
        .list(request, &mut |listed| {
            match listed {
                Listed::Key { key, size } => keys.push((key.to_owned(), size)),
                Listed::Prefix(prefix) => prefixes.push(prefix.to_owned()),
                Listed::Bad(why) => panic!("{why}"),
            }
            ControlFlow::Continue(())
        })
        .await?;
    Ok((keys, prefixes, end))
}

async fn get(s3: &S3, key: &str) -> Result<Vec<u8>, Fault> {
    let (sender, readers) = mpsc::channel::<BodyReader>();
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Ok(mut reader) = readers.recv() {
            while let Some(chunk) = reader.next().unwrap() {
                bytes.extend_from_slice(chunk);
            }
        }
        bytes
    });
    let fetched = fetch::fetch(s3, key, &mut Slot::new(), |reader| sender.send(reader).unwrap()).await;
    drop(sender);
    let bytes = reading.join().unwrap();
    fetched.map(|()| bytes)
}

#[tokio::test]
async fn a_real_server_lists_and_gives_what_was_put() {
    let Some(server) = Server::from_environment() else {
        println!("skipped: TRAILSPOOL_TEST_S3_ENDPOINT is not set");
        return;
    };
    server.put("", b"").await; // may be there already
    let mut objects: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (n, name) in ODD.iter().enumerate() {
        objects.insert(format!("{FOLDER}{name}"), format!("body of {name}").repeat(1 + n).into_bytes());
    }
    let large: Vec<u8> = (0..7 * limits::CHUNK_BYTES + 13).map(|at| (at * 31 % 251) as u8).collect();
    objects.insert(format!("{FOLDER}large"), large.clone());
    for (key, body) in &objects {
        server.put(&format!("/{key}"), body).await;
    }
    let s3 = server.s3(&server.secret_key);
    let all: Vec<(String, u64)> =
        objects.iter().map(|(key, body)| (key.clone(), body.len() as u64)).collect();

    lists_in_one_page(&s3, &all).await;
    lists_in_small_pages(&s3, &all).await;
    starts_after_a_key(&s3, &all).await;
    groups_by_folder(&s3).await;
    for (key, body) in &objects {
        assert!(get(&s3, key).await.unwrap() == *body, "{key}");
    }
    resumes_from_a_byte(&s3, &format!("{FOLDER}large"), &large).await;

    let gone = get(&s3, &format!("{FOLDER}not there")).await.unwrap_err();
    assert_eq!(gone.class, Class::Gone, "{gone}");
    if std::env::var("TRAILSPOOL_TEST_S3_UNSIGNED").is_err() {
        let wrong = server.s3("not the secret");
        let denied = list(&wrong, &ListRequest { prefix: FOLDER, ..Default::default() }).await.unwrap_err();
        assert_eq!((denied.class, denied.cause), (Class::Denied, "signature"), "{}", denied.text);
        assert_eq!(get(&wrong, &all[0].0).await.unwrap_err().cause, "signature");
    }
}

async fn lists_in_one_page(s3: &S3, all: &[(String, u64)]) {
    let (keys, prefixes, end) =
        list(s3, &ListRequest { prefix: FOLDER, ..Default::default() }).await.unwrap();
    assert_eq!(keys, all);
    assert!(prefixes.is_empty());
    assert_eq!(end, ListEnd::Complete);
}

async fn lists_in_small_pages(s3: &S3, all: &[(String, u64)]) {
    let (mut keys, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let continuation = token.as_deref();
        let request = ListRequest { prefix: FOLDER, continuation, max_keys: Some(3), ..Default::default() };
        let (page, _, end) = list(s3, &request).await.unwrap();
        assert!(page.len() <= 3);
        keys.extend(page);
        pages += 1;
        match end {
            ListEnd::More { continuation } => token = Some(continuation),
            end => break assert_eq!(end, ListEnd::Complete),
        }
    }
    assert_eq!(keys, all);
    assert!(pages >= all.len() / 3);
}

async fn starts_after_a_key(s3: &S3, all: &[(String, u64)]) {
    let start_after = Some(all[4].0.as_str());
    let (keys, _, _) =
        list(s3, &ListRequest { prefix: FOLDER, start_after, ..Default::default() }).await.unwrap();
    assert_eq!(keys, all[5..]);
}

async fn groups_by_folder(s3: &S3) {
    let request = ListRequest { prefix: FOLDER, delimiter: true, ..Default::default() };
    let (keys, mut prefixes, _) = list(s3, &request).await.unwrap();
    prefixes.sort();
    assert_eq!(prefixes, [format!("{FOLDER}dots./"), format!("{FOLDER}umläut/")]);
    assert_eq!(keys.len(), ODD.len() + 1 - 2);
}

async fn resumes_from_a_byte(s3: &S3, key: &str, whole: &[u8]) {
    let begin = s3.get(key, None).await.unwrap();
    assert_eq!(begin.len, Some(whole.len() as u64));
    let etag = begin.etag.expect("an ETag");
    let rest = s3.get(key, Some((1000, &etag))).await.unwrap();
    assert_eq!(rest.len, Some(whole.len() as u64));
    assert!(rest.body.read_at_most(usize::MAX).await.unwrap() == whole[1000..]);
    let changed = s3.get(key, Some((1000, "\"0123456789abcdef0123456789abcdef\""))).await.unwrap_err();
    assert_eq!(changed.class, Class::Restart, "{changed}");
}
