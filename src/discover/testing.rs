//! What the tests of this room share.

use std::time::Duration;

use crate::config::{Attribution, Credentials, Endpoint, Method, Secret, Source, Start};

/// A source of bucket `bucket` that wants everything.
pub(crate) fn source(name: &str) -> Source {
    Source {
        name: name.into(),
        bucket: "bucket".into(),
        prefix: "".into(),
        region: "us-east-1".into(),
        method: Method::Poll,
        queue_url: None,
        delete_foreign: false,
        refresh: Duration::from_secs(300),
        start: Start::All,
        accounts: Vec::new(),
        regions: Vec::new(),
        unfiltered: false,
        exclude: Default::default(),
        rules: Default::default(),
        attribution: Attribution::None,
        default_domain: "".into(),
        endpoint: Endpoint { tls: false, host: "localhost".into(), port: None, path_style: true },
        flavor: Default::default(),
        request_payer: false,
        ca_file: None,
        proxies: Default::default(),
        credentials: Credentials::IamUser {
            access_key_id: "AKIAEXAMPLE".into(),
            secret_access_key: Secret::new("secret".to_owned()),
        },
        sts: hyper::Uri::from_static("https://sts.us-east-1.amazonaws.com"),
    }
}
