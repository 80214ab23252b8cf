//! Addresses, proxies and files, and what is said of answers that are none.

use super::*;

#[test]
fn a_secret_in_the_place_of_a_file_is_not_shown() {
    let path = PathBuf::from("/no/such/kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nDcU4eJ2bG6hM8o=");
    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
    for error in
        [FetchError::File { path: path.clone(), source }, FetchError::Bearer { path, flaw: "" }]
    {
        assert!(error.to_string().starts_with("/(redacted): "), "{error}");
    }
}

/// What of an answer or a fault is shown, and by whom it was asked.
#[tokio::test]
async fn a_proxy_is_asked_and_named_and_no_query_is_shown() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", proxy.local_addr().unwrap());
    let secret = Secret::new(at.replace("//", "//me:pw@"));
    let way = Way { proxy: Some(secret), insecure_http: true, ..Way::default() };
    let ask = async |url: &str| {
        let url = Url::parse(url).unwrap();
        let request = way.client(&url).await.unwrap().get(url.clone());
        read(&way, &url, request, MAX_BYTES).await.unwrap_err().to_string()
    };
    let answer = async || {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut asked = [0; 512];
        let read = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&asked[..read]).into_owned()
    };
    for (url, line) in [
        ("http://id.invalid/i?apikey=s3cret", "GET http://id.invalid/i?apikey=s3cret "),
        ("https://id.invalid/i?apikey=s3cret", "CONNECT id.invalid:443 "),
    ] {
        let (said, asked) = tokio::join!(ask(url), answer());
        assert!(asked.starts_with(line), "{asked}");
        assert!(said.contains("://id.invalid/i: ") && !said.contains("s3cret"), "{said}");
    }
    drop(proxy);
    let said = ask("http://id.invalid/i?apikey=s3cret").await;
    assert!(said.starts_with(&format!("http://id.invalid/i: by the proxy {at}: ")), "{said}");
}

#[tokio::test]
async fn what_answers_without_tls_is_told() {
    use tokio::io::AsyncWriteExt as _;

    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", plain.local_addr().unwrap())).unwrap();
    let answer = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let way = Way::default();
    let request = way.client(&url).await.unwrap().get(url.clone());
    let (said, _stream) = tokio::join!(read(&way, &url, request, MAX_BYTES), answer);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("the other side does not speak TLS on this port: "), "{said}");
}

#[tokio::test]
async fn what_a_file_has_that_is_no_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (text, flaw) in [
        ("", "bearer_file has to: it is empty"),
        ("one\ntwo\n", "bearer_file has to: it has several lines"),
        ("a b", "bearer_file has to: a character in it is no token's"),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let said = bearer(file.path()).await.unwrap_err().to_string();
        assert!(said.ends_with(flaw), "{said}");
    }
    std::fs::write(file.path(), "token\r\n").unwrap();
    assert_eq!(bearer(file.path()).await.unwrap().as_str(), "token");
}

#[test]
fn what_is_no_json_is_told_by_what_it_is() {
    let flaw = |text: &str, kind: &str| {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        no_object(text.as_bytes(), &headers, &error)
    };
    let page = flaw("<html>", "text/html");
    assert_eq!(page, "no JSON object, but `text/html`: is it this address that is meant?");
    assert!(flaw("{\"a\":", "application/json").contains("EOF"));
}

#[test]
fn where_an_answer_leads_instead() {
    let at = Url::parse("https://id.example.com/realms/shop").unwrap();
    let lead = |to: &str| lead(&at, &HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]));
    let to = |place: &str| {
        format!(": it leads to {place}, which is not followed; name that address itself")
    };
    assert_eq!(lead("/auth/realms/shop"), to("https://id.example.com/auth/realms/shop"));
    assert_eq!(lead("https://sso.example.com/?code=s3cret#x"), to("https://sso.example.com/"));
    for none in ["https://me:pw@x.org/", "http://["] {
        assert_eq!(lead(none), "", "{none}");
    }
    assert_eq!(super::lead(&at, &HeaderMap::new()), "");
}

/// An address is read as the URL Standard says: its case, and blanks around it, make no difference.
#[test]
fn a_document_leads_to_nothing_less_safe() {
    let [safe, here] =
        ["https://id.example.com/", "http://localhost:8080/"].map(|url| Url::parse(url).unwrap());
    for url in ["https://id.example.com/keys", "HTTPS://id.example.com/keys", " \u{8} https://x/"] {
        assert_eq!(check_lead(&safe, url, false), Ok(()), "{url:?}");
        assert_eq!(check_lead(&here, url, false), Ok(()), "{url:?}");
    }
    for url in ["http://localhost:8080/keys", "HTTP://127.0.0.1/"] {
        assert_eq!(check_lead(&safe, url, false), Err(UrlError::Insecure), "{url:?}");
        assert_eq!(check_lead(&here, url, false), Ok(()), "{url:?}");
        assert_eq!(check_lead(&safe, url, true), Ok(()), "{url:?}");
    }
    let elsewhere = "http://id.example.com/";
    assert_eq!(check_lead(&here, elsewhere, false), Err(UrlError::Insecure));
    assert_eq!(check_lead(&here, elsewhere, true), Ok(()));
}

#[test]
fn addresses() {
    for good in [
        "https://id.example.com/realms/x",
        "http://127.0.0.1:8080/x",
        "http://127.8.9.1",
        "http://[::1]:80/",
        "http://localhost:8080",
    ] {
        assert_eq!(check_url(good, false), Ok(()), "{good}");
    }
    for insecure in [
        "http://id.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://[::2]/",
        "http://0.0.0.0/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
    ] {
        assert_eq!(check_url(insecure, false), Err(UrlError::Insecure), "{insecure}");
    }
    assert_eq!(check_url("http://keycloak:8080/x", true), Ok(()));
    assert_eq!(check_url("ftp://keycloak/x", true), Err(UrlError::Insecure));
    assert_eq!(check_url("https://me:pw@x.org", false), Err(UrlError::Credentials));
    assert!(matches!(check_url("keys.json", true), Err(UrlError::Malformed(_))));
    assert_eq!(check_proxy("http://proxy.example.com:3128"), Ok(()));
    assert_eq!(check_proxy("https://me:pw@proxy.example.com"), Ok(()));
    for none in ["http://", "proxy:3128", "socks5://127.0.0.1:1", "socks9://x:1", "ftp://x"] {
        assert!(check_proxy(none).is_err(), "{none}");
    }
}
