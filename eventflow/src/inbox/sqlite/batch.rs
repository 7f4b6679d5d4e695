//! Lists on their way into a statement: JSON that the database takes apart.

use serde::Serialize;
use uuid::Uuid;

use crate::inbox::Lease;

/// Writes claims for the statements that name them.
pub(super) fn leases_json(leases: &[Lease]) -> Result<String, sqlx::Error> {
    #[derive(Serialize)]
    struct Claim {
        id: Uuid,
        token: i64,
    }

    let claims: Vec<Claim> = leases
        .iter()
        .map(|&Lease { id, token }| Claim { id, token })
        .collect();
    json(&claims)
}

/// Writes values as JSON.
pub(super) fn json<T: Serialize + ?Sized>(values: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()))
}
