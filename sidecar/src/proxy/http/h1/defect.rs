//! Everything that can be wrong with a message, and what is answered: one table.
//!
//! A request with a defect is answered with its status and the connection is closed, because
//! where the next request begins is no longer certain. A defect in an answer of a backend is a
//! 502 and ends the connection to it; if the head of the answer has been relayed, the app's
//! connection is reset.

use http::StatusCode;

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $why:literal;)*) => {
        /// What is wrong with a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Defect {
            $($(#[$doc])* $name,)*
        }

        impl Defect {
            /// All of them, for tests that must leave none out.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The status of the answer to a request that has it.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// A few words for whoever debugs the app.
            pub fn why(self) -> &'static str {
                match self {
                    $(Self::$name => $why,)*
                }
            }
        }
    };
}

defects! {
    // The head as a whole (RFC 9112, sections 2.2, 3 and 5).
    Head => BAD_REQUEST, "the head is malformed";
    BareLineFeed => BAD_REQUEST, "a line ends without a carriage return";
    Version => HTTP_VERSION_NOT_SUPPORTED, "not HTTP/1.0 or HTTP/1.1";
    HeadTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large";
    TooManyFields => REQUEST_HEADER_FIELDS_TOO_LARGE, "the head has too many fields";
    HeadTimeout => REQUEST_TIMEOUT, "the head did not arrive in time";

    // The request line (RFC 9110, sections 9.3.6 and 9.3.8; RFC 9112, section 3.2).
    Method => METHOD_NOT_ALLOWED, "CONNECT and TRACE are not served";
    TargetTooLong => URI_TOO_LONG, "the target is too long";
    TargetForm => BAD_REQUEST, "the target is neither a path nor an absolute URI";
    TargetCharacters => BAD_REQUEST, "the target has characters that a URI cannot have";
    DotSegments => BAD_REQUEST, "the path has dot segments with parameters";

    // Host (RFC 9110, section 7.2; RFC 9112, section 3.2).
    NoHost => BAD_REQUEST, "there is no Host";
    SeveralHosts => BAD_REQUEST, "there is more than one Host";
    Host => BAD_REQUEST, "the host is not valid";

    // The framing of the body (RFC 9112, section 6).
    LengthInvalid => BAD_REQUEST, "Content-Length is not a number";
    SeveralLengths => BAD_REQUEST, "there is more than one Content-Length";
    LengthAndCoding => BAD_REQUEST, "there are both Content-Length and Transfer-Encoding";
    SeveralCodings => BAD_REQUEST, "there is more than one Transfer-Encoding";
    CodingNotChunked => BAD_REQUEST, "the last transfer coding is not chunked, once";
    CodingUnknown => NOT_IMPLEMENTED, "a transfer coding beside chunked is not supported";
    CodingBeforeHttp11 => BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding";
    Expectation => EXPECTATION_FAILED, "the expectation is not known";

    // The body itself (RFC 9112, section 7.1).
    ChunkSize => BAD_REQUEST, "a chunk size is malformed";
    ChunkExtension => BAD_REQUEST, "a chunk extension is malformed or too long";
    ChunkEnd => BAD_REQUEST, "a chunk does not end where it should";
    Trailers => BAD_REQUEST, "the trailers are malformed";
    TrailersTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "the trailers are too large";
    Incomplete => BAD_REQUEST, "the body ended early";
    BodyIdle => REQUEST_TIMEOUT, "the body paused for too long";
    BodyTooSlow => REQUEST_TIMEOUT, "the body arrives too slowly";

    // Answers only.
    TooManyInterims => BAD_GATEWAY, "there are too many interim answers";
    Switch => BAD_GATEWAY, "the protocol was switched without being asked to";
}
