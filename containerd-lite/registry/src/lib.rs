//! Distribution-spec client: references, auth, resolve, fetch.
