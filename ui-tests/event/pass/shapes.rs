use eventflow::prelude::*;

#[derive(Event)]
struct Tick;

#[derive(Event)]
struct Nothing {}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
struct OrderPaid {
    amount: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
struct OrderRefunded(OrderPaid);

fn main() {
    assert_eq!(Tick.encode().unwrap().as_str(), "{}");
    assert_eq!(Nothing {}.encode().unwrap().as_str(), "{}");

    let paid = OrderPaid { amount: 7 }.encode().unwrap();
    assert_eq!(paid.as_str(), r#"{"amount":7}"#);
    assert!(<Tick as Event>::decode(&paid).is_ok());
    assert_eq!(<OrderPaid as Event>::decode(&paid).unwrap(), OrderPaid { amount: 7 });

    let refunded = OrderRefunded(OrderPaid { amount: 7 });
    assert_eq!(refunded.encode().unwrap(), paid);
    assert_eq!(<OrderRefunded as Event>::decode(&paid).unwrap(), refunded);
}
