//! Clients that stay at their backends: by cookies, by keys that are hashed, by keys that are
//! learned.

mod check;
