//! Where a body ends, as its head says (RFC 9112, section 6.3), with no room for two opinions.

use super::defect::Defect;
use super::fields::{Fields, Kind};
use super::head::{Request, Response};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    Length(u64),
    Chunked,
    /// Answers only: by the end of the connection.
    UntilClose,
}

/// The body of a request.
pub fn of_request(request: &Request<'_>) -> Result<Framing, Defect> {
    let declared = declared(request.fields, request.http10)?;
    Ok(match declared {
        // A length of 0 is none, but one that is passed on: a POST without it may be refused.
        Some(framing) => framing,
        None => Framing::Empty,
    })
}

/// The body of an answer to a request that was, or was not, a HEAD.
pub fn of_response(response: &Response<'_>, to_head: bool) -> Result<Framing, Defect> {
    let declared = declared(response.fields, response.http10)?;
    Ok(match response.status {
        100..=199 | 204 | 304 => Framing::Empty,
        _ if to_head => Framing::Empty,
        _ => declared.unwrap_or(Framing::UntilClose),
    })
}

/// What Content-Length and Transfer-Encoding say.
fn declared(fields: Fields<'_>, http10: bool) -> Result<Option<Framing>, Defect> {
    let mut lengths = fields.values(Kind::ContentLength);
    let mut codings = fields.values(Kind::TransferEncoding);
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Defect::LengthAndCoding),
        (Some(_), None) if lengths.next().is_some() => Err(Defect::SeveralLengths),
        (Some(length), None) => content_length(length).map(|length| Some(Framing::Length(length))),
        (None, Some(_)) if http10 => Err(Defect::CodingBeforeHttp11),
        (None, Some(_)) if codings.next().is_some() => Err(Defect::SeveralCodings),
        (None, Some(coding)) => check_coding(coding).map(|()| Some(Framing::Chunked)),
    }
}

/// Digits only: no sign, no list, no white space.
fn content_length(value: &[u8]) -> Result<u64, Defect> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(Defect::LengthInvalid)
}

/// Exactly `chunked`: a body in any other coding would have to be undone.
fn check_coding(value: &[u8]) -> Result<(), Defect> {
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = || value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let others = || codings().skip(1);
    if !codings().next().is_some_and(chunked) {
        return Err(Defect::CodingNotChunked);
    }
    match others().all(|coding| !coding.is_empty() && !chunked(coding)) {
        true if others().next().is_none() => Ok(()),
        true => Err(Defect::CodingUnknown),
        false => Err(Defect::CodingNotChunked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::http::h1::head::{Progress, RequestHead, ResponseHead};

    fn request(fields: &str) -> Result<Framing, Defect> {
        let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &mut Progress::default()).unwrap().unwrap();
        of_request(&head.view())
    }

    fn response(line: &str, fields: &str, to_head: bool) -> Result<Framing, Defect> {
        let text = format!("{line}\r\n{fields}\r\n");
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), &mut Progress::default()).unwrap().unwrap();
        of_response(&head.view(), to_head)
    }

    #[test]
    fn requests() {
        assert_eq!(request(""), Ok(Framing::Empty));
        assert_eq!(request("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(request("Content-Length: 0012\r\n"), Ok(Framing::Length(12)));
        assert_eq!(request("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for bad in ["", "x", "+1", "-1", "1 2", "1,1", "0x1", "18446744073709551616", "1."] {
            assert_eq!(
                request(&format!("Content-Length: {bad}\r\n")),
                Err(Defect::LengthInvalid),
                "{bad}"
            );
        }
        let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(request(both), Err(Defect::LengthAndCoding));
        let twice = "Content-Length: 1\r\nContent-Length: 1\r\n";
        assert_eq!(request(twice), Err(Defect::SeveralLengths));
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(request(twice), Err(Defect::SeveralCodings));
        for unknown in ["gzip, chunked", "gzip,deflate , chunked"] {
            assert_eq!(
                request(&format!("Transfer-Encoding: {unknown}\r\n")),
                Err(Defect::CodingUnknown)
            );
        }
        for bad in [
            "",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            ",chunked",
            "chunked,",
            "xchunked",
            "chunked;q=1",
        ] {
            let got = request(&format!("Transfer-Encoding: {bad}\r\n"));
            assert_eq!(got, Err(Defect::CodingNotChunked), "{bad}");
        }
    }

    #[test]
    fn answers() {
        assert_eq!(response("HTTP/1.1 200 OK", "", false), Ok(Framing::UntilClose));
        assert_eq!(
            response("HTTP/1.1 200 OK", "Content-Length: 5\r\n", false),
            Ok(Framing::Length(5))
        );
        assert_eq!(response("HTTP/1.1 200 OK", "Content-Length: 5\r\n", true), Ok(Framing::Empty));
        for status in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
            let line = format!("HTTP/1.1 {status}");
            assert_eq!(response(&line, "Content-Length: 5\r\n", false), Ok(Framing::Empty));
        }
        let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(response("HTTP/1.1 200 OK", both, false), Err(Defect::LengthAndCoding));
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert_eq!(response("HTTP/1.0 200 OK", chunked, false), Err(Defect::CodingBeforeHttp11));
    }
}
