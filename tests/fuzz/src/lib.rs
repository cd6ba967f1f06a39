//! What the fuzz targets share: the codec, drivers for it and for hyper, and one form of a message
//! to compare the two by.
//!
//! The codec is compiled from its own files, not through the sidecar: what else the sidecar needs
//! would take minutes to build with a sanitizer, and none of it is looked at here.

pub mod codec;
pub mod hyper;
pub mod intended;
pub mod message;

#[path = "../../../sidecar/src/cluster"]
pub mod cluster {
    pub mod affinity {
        pub mod keyring;
        pub mod token;

        pub use keyring::Tags;
    }
}

#[path = "../../../sidecar/src/net"]
pub mod net {
    pub mod buffer;
}

#[path = "../../../sidecar/src/proxy"]
pub mod proxy {
    pub mod http {
        pub mod cookie;
        mod path;

        /// See `path::canonical`.
        pub fn canonical(path: &str) -> Option<std::borrow::Cow<'_, str>> {
            path::canonical(path)
        }

        pub mod h1 {
            pub mod decoder;
            pub mod defect;
            pub mod fields;
            pub mod framing;
            pub mod head;
            pub mod target;
        }
    }
}
