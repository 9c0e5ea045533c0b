//! Signatures for S3 and other services, in headers. What is signed is what goes over the wire: the path is percent-encoded
//! once ([`encode_path`]), never normalised. The time is an input.
//!
//! Source: S3 API Reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".

use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::credentials::Keys;

/// All but the unreserved characters of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A key as it stands in a path.
pub(super) fn encode_path(key: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(key, PATH)
}

/// A value as it stands in a query.
pub(super) fn encode_query(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, QUERY)
}

/// What signatures are valid for.
#[derive(Debug)]
pub(super) struct Scope {
    service: &'static str,
    region: Box<str>,
}

impl Scope {
    pub(super) fn new(service: &'static str, region: &str) -> Scope {
        Scope { service, region: region.into() }
    }

    /// Adds `x-amz-date`, `authorization`, for S3 `x-amz-content-sha256`, and the session token of keys that have one,
    /// to a request with this body. Every header it has is signed, except `user-agent`, which proxies change.
    ///
    /// # Errors
    /// When something in the credentials or the region cannot stand in a header.
    pub(super) fn sign(
        &self,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
        keys: &Keys,
        now: SystemTime,
    ) -> Result<(), String> {
        let mut settings = SigningSettings::default();
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let identity = keys.identity().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let headers =
            request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let uri = request.uri().to_string();
        let signable =
            SignableRequest::new(request.method().as_str(), uri, headers, SignableBody::Bytes(body))
                .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &params).map_err(|error| error.to_string())?.into_parts();
        for (name, value) in instructions.headers() {
            let mut value = HeaderValue::from_str(value).map_err(|error| format!("{name}: {error}"))?;
            value.set_sensitive(name == "authorization" || name == "x-amz-security-token");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 20130524T000000Z
    const MAY_24: Duration = Duration::from_secs(1_369_353_600);

    fn sign_example(uri: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let keys = Keys::new("AKIAIOSFODNN7EXAMPLE", secret, None, None);
        let mut request = Request::get(uri).body(Full::default()).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Scope::new("s3", "us-east-1")
            .sign(&mut request, b"", &keys, SystemTime::UNIX_EPOCH + MAY_24)
            .unwrap();
        request
    }

    fn authorization(request: &Request<Full<Bytes>>) -> &str {
        request.headers()["authorization"].to_str().unwrap()
    }

    #[test]
    fn aws_example_get_object_with_range() {
        let request = sign_example(
            "https://examplebucket.s3.amazonaws.com/test.txt",
            &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("user-agent", "trailspool/0"),
            ],
        );
        assert_eq!(
            authorization(&request),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(request.headers()["x-amz-date"], "20130524T000000Z");
    }

    #[test]
    fn aws_example_get_bucket_lifecycle() {
        let request = sign_example("https://examplebucket.s3.amazonaws.com/?lifecycle", &[]);
        let signature = "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        assert!(authorization(&request).ends_with(signature), "{}", authorization(&request));
    }

    #[test]
    fn aws_example_list_objects() {
        let request = sign_example("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", &[]);
        let signature = "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        assert!(authorization(&request).ends_with(signature), "{}", authorization(&request));
    }

    #[test]
    fn keys_are_encoded_once_byte_for_byte() {
        for (key, path) in [
            ("a/b-c_d.e~f", "a/b-c_d.e~f"),
            ("a b+c%d", "a%20b%2Bc%25d"),
            ("ä/日本", "%C3%A4/%E6%97%A5%E6%9C%AC"),
            ("a//b/../c/.", "a//b/../c/."),
            ("k=v&w?x#y:z@!$'()*,;", "k%3Dv%26w%3Fx%23y%3Az%40%21%24%27%28%29%2A%2C%3B"),
        ] {
            assert_eq!(encode_path(key).to_string(), path);
        }
        assert_eq!(encode_query("a/b c+").to_string(), "a%2Fb%20c%2B");
    }

    #[test]
    fn a_credential_that_cannot_be_sent_is_an_error() {
        let mut request = Request::get("https://b.example.com/k").body(Full::default()).unwrap();
        for keys in [Keys::new("AKIA\nX", "s", None, None), Keys::new("ASIAX", "s", Some("t\nt"), None)] {
            let scope = Scope::new("s3", "r");
            assert!(scope.sign(&mut request, b"", &keys, SystemTime::UNIX_EPOCH).is_err());
        }
    }

    #[test]
    fn a_session_token_is_sent_and_signed_and_never_shown() {
        let keys = Keys::new("ASIAX", "s", Some("hush"), None);
        let mut request = Request::post("https://sts.example.com/").body(Full::default()).unwrap();
        let scope = Scope::new("sts", "eu-west-1");
        scope.sign(&mut request, b"Action=GetCallerIdentity", &keys, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(request.headers()["x-amz-security-token"], "hush");
        let signed = authorization(&request);
        assert!(signed.contains("/eu-west-1/sts/aws4_request, "), "{signed}");
        assert!(signed.contains("SignedHeaders=host;x-amz-date;x-amz-security-token, "), "{signed}");
        assert!(!format!("{request:?}").contains("hush"));
    }
}
