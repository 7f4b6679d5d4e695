//! How long it takes to find and call the handler of an event.
//!
//! `dispatch` is a whole call of a router over so many event types: ready, call, and the future
//! polled to its end on the spot, with a handler that only takes its event. The router decodes the
//! payload in it, which `decode` does alone, so dispatch is the one less the other.
//!
//! Where there are more than ten, ten of them are called in turn, spread over the table: the
//! processor would guess one event alone, whatever the table is like. All ten hold the same struct,
//! whose decoding is no part of what is measured. The others have no fields, so that the compiler
//! is done with them soon.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up fails")]

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
};

use divan::Bencher;
use eventflow::{
    Payload,
    prelude::*,
    router::{RouteTable, Router},
};

fn main() {
    divan::main();
}

/// What the events hold that are called.
#[derive(Serialize, Deserialize)]
struct Contents {
    order_id: Uuid,
    sku: String,
    quantity: u32,
    note: Option<String>,
}

/// A router of events, which calls those in brackets.
macro_rules! router {
    ($module:ident: $([$called:ident] $($event:ident)*)*) => {
        mod $module {
            use super::*;

            $(
                #[derive(Serialize, Deserialize, Event)]
                pub(super) struct $called(Contents);

                $(
                    #[derive(Event)]
                    pub(super) struct $event;
                )*
            )*

            #[derive(EventSet)]
            enum Events {
                $($called($called), $($event($event),)*)*
            }

            /// The handlers, by the names of their events.
            #[expect(non_snake_case, reason = "a macro makes no other names of those of the events")]
            mod on {
                use super::*;

                $(
                    #[handler]
                    pub(super) async fn $called(event: super::$called) {
                        black_box(event);
                    }

                    $(
                        #[handler]
                        pub(super) async fn $event(event: super::$event) {
                            black_box(event);
                        }
                    )*
                )*
            }

            #[router(events = Events, handlers($(on::$called, $(on::$event,)*)*))]
            pub(super) struct Service;

            pub(super) const CALLED: &[&str] = &[$($called::TYPE),*];
        }
    };
}

router!(one: [OrderCreated]);

router!(ten:
    [OrderCreated] [OrderPaid] [CartClosed] [PaymentRejected] [ShipmentConfirmed]
    [InvoiceSplit] [AccountArchived] [RefundApproved] [StockCounted] [TicketReleased]
);

router!(five_hundred:
    [OrderCreated] AddressUpdated CartRejected ReviewRejected AddressReserved AccountMoved
        DeliveryConfirmed ReviewConfirmed AccountPrinted AddressApproved TicketPaid StockUpdated
        ReturnReleased ParcelCounted PaymentSplit ProductBooked AccountClosed AddressAssigned
        PaymentFlagged InvoiceCleared PriceDeleted AccountOpened PriceAssigned TicketMerged
        ShipmentApproved ParcelMoved CouponReserved DeliveryFlagged ShipmentMoved DeliveryReleased
        PriceUpdated ReviewCreated DeliveryPaid RefundMoved PaymentMerged CartReleased
        AccountRestored ProductCreated PaymentClosed AccountBooked ReviewAssigned CustomerReserved
        StockClosed ReviewBooked ShipmentArchived PaymentReleased ReturnPaid ProductArchived
        TicketSplit SubscriptionConfirmed
    [OrderPaid] ParcelFlagged ShipmentDeleted CouponCounted CouponUpdated RefundRestored
        InvoiceOpened PaymentMoved AddressFlagged PriceArchived RefundExpired DeliveryBooked
        PriceSplit ReturnCancelled CouponConfirmed InvoiceCancelled TicketCleared InvoiceArchived
        SubscriptionSplit CustomerApproved SupplierClosed InvoiceExpired AccountCounted
        RefundFlagged CustomerBooked ReturnAssigned SubscriptionBooked CouponClosed CartReserved
        ShipmentReleased AccountReserved CouponRejected SupplierSplit StockAssigned PaymentCreated
        CouponPrinted SupplierCleared SubscriptionCleared ReviewPrinted SubscriptionMoved
        AccountAssigned ParcelCleared AddressBooked ReviewDeleted DeliveryRestored SupplierRestored
        CartMoved ReturnCreated ShipmentOpened AddressRejected
    [CartClosed] CustomerReleased CustomerPrinted PaymentRenewed ParcelApproved TicketBooked
        AddressReleased SubscriptionReserved TicketRejected ReturnRejected DeliveryCleared
        ParcelExpired CustomerCleared CouponReleased CustomerClosed PriceRejected ReviewMerged
        PaymentApproved CustomerCancelled ParcelCreated TicketCreated CartSplit OrderConfirmed
        ParcelUpdated ReturnMoved ProductConfirmed CouponCreated CouponCleared OrderMoved
        ProductMoved OrderApproved CustomerSplit ReturnReserved InvoiceDeleted PaymentExpired
        RefundMerged DeliveryRenewed CartCancelled ReviewSplit ShipmentAssigned AccountFlagged
        OrderExpired PaymentPaid DeliveryClosed StockDeleted SupplierRejected AccountSplit
        SubscriptionRejected TicketRenewed InvoiceMerged
    [PaymentRejected] DeliveryCreated SupplierAssigned ParcelRejected CartApproved StockCleared
        ProductReserved CustomerOpened RefundRejected RefundConfirmed CustomerCreated
        AccountRejected PriceCreated StockPrinted InvoiceRejected ReviewCleared CartAssigned
        RefundCancelled PaymentRestored DeliveryRejected AccountApproved SubscriptionOpened
        PriceCleared AddressRenewed RefundBooked AddressExpired PriceBooked TicketCounted
        OrderFlagged SupplierApproved RefundOpened TicketClosed CartBooked DeliveryCancelled
        SubscriptionExpired CouponMoved ReturnExpired CustomerRestored DeliveryOpened
        DeliveryExpired SupplierCounted TicketPrinted ParcelReleased SupplierMoved InvoiceReleased
        PriceRenewed SubscriptionReleased ProductExpired CouponRenewed ProductRejected
    [ShipmentConfirmed] PaymentCleared DeliveryDeleted DeliveryMerged AddressSplit TicketConfirmed
        RefundReleased RefundAssigned ShipmentCreated ShipmentPrinted DeliveryMoved InvoiceUpdated
        CustomerUpdated InvoicePrinted PriceCounted SubscriptionApproved AccountCleared
        CustomerFlagged SubscriptionRestored InvoiceCreated DeliveryUpdated ReturnConfirmed
        SupplierReserved PriceMerged DeliverySplit SupplierArchived AddressMoved TicketApproved
        StockFlagged ProductCleared CouponSplit InvoiceAssigned RefundPrinted DeliveryArchived
        AddressMerged CouponOpened ProductReleased ReturnUpdated ReviewMoved ProductClosed
        SubscriptionPrinted RefundReserved ReviewApproved InvoiceBooked ReturnCleared
        CustomerRenewed ParcelCancelled InvoiceRestored CartRestored ShipmentUpdated
    [InvoiceSplit] AddressCancelled CouponDeleted ShipmentRejected OrderRenewed ProductRenewed
        StockMoved AccountCancelled OrderPrinted ParcelBooked PaymentArchived AccountDeleted
        InvoiceConfirmed StockRenewed SupplierRenewed ProductDeleted AddressPaid ParcelArchived
        TicketArchived StockArchived ReturnArchived ReturnRestored DeliveryAssigned
        SubscriptionFlagged ShipmentPaid OrderAssigned PaymentPrinted ProductApproved OrderReleased
        ParcelRestored OrderReserved TicketDeleted CustomerRejected ReturnSplit CustomerPaid
        ShipmentFlagged ProductRestored CartCreated CartCleared AccountReleased OrderMerged
        PaymentBooked PriceClosed StockRejected PricePaid AccountCreated CustomerArchived
        SubscriptionCancelled ReturnPrinted RefundClosed
    [AccountArchived] ShipmentCancelled ShipmentReserved InvoiceReserved ReturnCounted ReviewCounted
        ShipmentRenewed PaymentCancelled ReviewPaid CustomerDeleted CustomerAssigned PriceCancelled
        OrderBooked InvoiceClosed InvoiceCounted OrderOpened TicketAssigned SupplierPaid
        InvoiceFlagged ShipmentClosed SupplierPrinted SupplierCancelled ShipmentRestored
        SubscriptionClosed SubscriptionCreated RefundPaid PriceReleased AccountRenewed RefundSplit
        RefundRenewed ReviewOpened SupplierCreated CartDeleted TicketReserved CartPaid PriceMoved
        ProductCounted DeliveryCounted ReviewClosed ReturnRenewed TicketMoved CartCounted
        PriceFlagged InvoiceApproved ProductAssigned ParcelConfirmed SupplierMerged StockRestored
        PaymentOpened StockMerged
    [RefundApproved] CartFlagged OrderDeleted TicketUpdated ReviewRestored CouponMerged
        CustomerMerged ReturnMerged CartConfirmed SupplierExpired ReturnClosed StockSplit
        ProductPaid ReturnOpened AddressPrinted SupplierUpdated ParcelDeleted OrderCancelled
        ParcelOpened StockPaid ShipmentCounted ShipmentMerged CouponCancelled AddressCounted
        SupplierFlagged RefundArchived ReviewReserved AccountPaid OrderCleared PriceRestored
        SubscriptionMerged AddressCreated StockCreated CartArchived SubscriptionAssigned StockOpened
        ShipmentBooked PaymentConfirmed StockReserved CouponArchived ReturnFlagged InvoiceRenewed
        CartOpened AddressDeleted CouponExpired AddressCleared ReviewReleased SupplierConfirmed
        CartMerged ShipmentSplit
    [StockCounted] CouponRestored ProductMerged ProductCancelled DeliveryPrinted ParcelPrinted
        PriceExpired OrderClosed RefundUpdated ProductUpdated StockBooked StockConfirmed
        RefundCreated CustomerExpired AccountConfirmed ShipmentCleared CouponAssigned StockReleased
        SubscriptionDeleted StockCancelled ReviewArchived SubscriptionRenewed AccountExpired
        AddressConfirmed PaymentCounted AccountUpdated ReviewExpired RefundCleared ShipmentExpired
        PaymentUpdated CouponApproved SupplierReleased ReturnApproved ProductSplit
        SubscriptionArchived CustomerMoved PriceReserved TicketRestored ParcelMerged CouponFlagged
        ParcelAssigned CartUpdated ParcelRenewed SupplierBooked TicketOpened ProductPrinted
        TicketExpired ParcelSplit StockExpired TicketCancelled
    [TicketReleased] ReviewFlagged ProductOpened ParcelReserved ReviewUpdated CartExpired
        SubscriptionUpdated OrderRejected SupplierDeleted CouponPaid OrderSplit OrderCounted
        OrderRestored AccountMerged SubscriptionCounted PaymentDeleted RefundDeleted ParcelClosed
        TicketFlagged ReviewRenewed CustomerCounted PriceApproved ReviewCancelled OrderUpdated
        AddressClosed AddressRestored RefundCounted ProductFlagged CartPrinted ReturnDeleted
        SubscriptionPaid OrderArchived PricePrinted InvoiceMoved ParcelPaid DeliveryApproved
        CartRenewed CouponBooked PriceOpened PriceConfirmed AddressArchived StockApproved
        PaymentReserved CustomerConfirmed InvoicePaid AddressOpened DeliveryReserved ReturnBooked
        SupplierOpened PaymentAssigned
);

fn payload() -> Payload {
    let order = serde_json::json!({
        "order_id": Uuid::from_u128(0x7c8f_0a6a_7b7c_4c74_9cfb_2e2e_2b9b_1d33),
        "sku": "tea-earl-grey-loose-leaf-250g",
        "quantity": 2,
        "note": "leave it with the neighbours at number seven if nobody opens",
    });
    Payload::encode("OrderCreated", &order).expect("it is an object")
}

#[divan::bench(sample_size = 100)]
fn decode(bencher: Bencher<'_, '_>) {
    let payload = payload();
    bencher.bench_local(|| {
        let event = one::OrderCreated::decode(black_box(&payload));
        assert!(black_box(event).is_ok());
    });
}

#[divan::bench(args = [1, 10, 500], sample_size = 100)]
fn dispatch(bencher: Bencher<'_, '_>, types: usize) {
    match types {
        1 => call(bencher, one::Service::new(()), one::CALLED),
        10 => call(bencher, ten::Service::new(()), ten::CALLED),
        _ => call(
            bencher,
            five_hundred::Service::new(()),
            five_hundred::CALLED,
        ),
    }
}

fn call<R: RouteTable>(
    bencher: Bencher<'_, '_>,
    mut router: Router<R, SqliteInbox, ()>,
    called: &[&str],
) {
    // Handlers have a timeout, and so need a runtime's clock.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    let deliveries: Vec<_> = called
        .iter()
        .map(|event_type| delivery(event_type))
        .collect();
    let mut deliveries = deliveries.iter().cycle();
    bencher
        .with_inputs(|| deliveries.next().cloned().expect("there is one at least"))
        .bench_local_values(|delivery| {
            assert!(router.poll_ready(&mut context).is_ready());
            let mut handling = router.call(delivery);
            let answer = handling.as_mut().poll(&mut context);
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        });
}

fn delivery(event_type: &str) -> Delivery<SqliteInbox> {
    let order = one::OrderCreated::decode(&payload()).expect("it is an order");
    let mut metadata = Envelope::new(&order)
        .expect("it is an object")
        .metadata()
        .clone();
    event_type.clone_into(&mut metadata.event_type);
    Delivery::detached(Envelope::from_parts(metadata, payload()))
}
