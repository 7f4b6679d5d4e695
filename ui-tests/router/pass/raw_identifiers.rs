use eventflow::{handler::Handler, prelude::*, router::RouteTable};

#[derive(Event)]
struct r#Move;

#[derive(Event)]
#[expect(non_camel_case_types)]
struct r#yield;

#[derive(Debug, Serialize, Deserialize, Event)]
struct Typed {
    #[event(aggregate_id)]
    r#type: Uuid,
}

#[derive(EventSet)]
#[expect(non_camel_case_types)]
enum r#enum {
    r#Move(r#Move),
    r#yield(r#yield),
    r#type(Typed),
}

#[handler]
async fn r#move(_: r#Move, r#fn: &Metadata) {
    let _ = r#fn;
}

#[handler]
async fn r#match(r#type: r#yield) {
    let _ = r#type;
}

#[router(events = r#enum, handlers(r#move, r#match), ignore(Typed))]
#[expect(non_camel_case_types)]
struct r#loop;

fn main() {
    assert_eq!(r#enum::TYPES, ["Move", "yield", "Typed"]);
    assert_eq!(r#move::NAME, "move");
    assert_eq!(r#loop::NAME, "loop");
    let event = Typed { r#type: Uuid::nil() };
    assert_eq!(event.aggregate_id(), Some(Uuid::nil()));
    assert!(event.encode().unwrap().as_str().starts_with(r#"{"type":"#));
    let _ = r#loop::new::<eventflow::inbox::PgInbox, ()>(());
}
