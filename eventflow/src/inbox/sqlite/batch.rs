//! Lists on their way into a statement: JSON that the database takes apart.

use serde::Serialize;
use uuid::Uuid;

use crate::{database::sqlite::values::json, inbox::Lease};

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
