"""What the live adapter sends to Stripe, and what it makes of Stripe's bad days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
import structlog
from pydantic import SecretStr

from sts_app.billing import live
from sts_app.billing.gateway import BadSignature, PaymentsError, RefundRequest, Refused, TryLater
from sts_app.billing.live import StripePayments
from tests.contracts.payment_worlds import (
    ALICE,
    KEY,
    MONTHLY,
    PDF,
    REF,
    SECRETS,
    LiveWorld,
    a_paid_page,
    a_refund,
    a_request,
    a_subscription,
    an_open_page,
    intent_of,
    some_evidence,
)
from tests.fakes.stripe_api import FakeStripe, Fault


def sent(world: LiveWorld, path: str) -> dict[str, Any]:
    """What was sent to the only call of `path`."""
    [call] = [call for call in world.fake.calls if call.path == path and call.method == "POST"]
    return call.params


class TestWhatIsSent:
    def test_the_version_of_the_interface_is_that_of_the_package(self) -> None:
        assert stripe.VERSION == live.SDK_VERSION
        assert stripe.api_version == live.API_VERSION

    def test_a_customer_carries_our_reference(self, live_world: LiveWorld) -> None:
        live_world.payments.create_customer(ALICE, key="customer-7")

        assert sent(live_world, "/v1/customers") == {
            "email": ALICE.email,
            "name": "Alice",
            "metadata": {"customer_ref": "per_7"},
        }
        assert [call.key for call in live_world.fake.calls] == ["customer-7"]

    def test_a_new_address_is_all_that_is_sent_of_a_customer(self, live_world: LiveWorld) -> None:
        customer_id = live_world.payments.create_customer(ALICE, key="customer-7")

        live_world.payments.update_customer(customer_id, "alice@elsewhere.example")

        assert sent(live_world, f"/v1/customers/{customer_id}") == {"email": "alice@elsewhere.example"}

    def test_a_checkout_is_opened_with_everything_the_store_needs(self, live_world: LiveWorld) -> None:
        customer_id = live_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)

        live_world.payments.open_checkout(request, key=KEY)

        params = sent(live_world, "/v1/checkout/sessions")
        assert live_world.fake.calls[-1].key == KEY
        assert params["mode"] == "payment"
        assert params["line_items"] == [{"price": "price_lifetime", "quantity": "1"}]
        assert params["client_reference_id"] == REF
        assert params["metadata"] == {"purchase_ref": REF}
        assert params["payment_intent_data"] == {"metadata": {"purchase_ref": REF}, "receipt_email": ALICE.email}
        assert params["customer"] == customer_id
        assert "customer_email" not in params
        assert params["success_url"] == request.success_url
        assert params["expires_at"] == str(int(request.expires_at.timestamp()))
        assert params["allow_promotion_codes"] == "true"
        assert params["invoice_creation"]["enabled"] == "true"
        assert params["adaptive_pricing"] == {"enabled": "false"}
        assert params["after_expiration"]["recovery"]["enabled"] == "true"
        assert "no subscription" in params["custom_text"]["submit"]["message"]
        assert "terms" in params["custom_text"]["submit"]["message"]
        assert "payment_method_types" not in params

    def test_a_subscription_says_that_it_is_one(self, live_world: LiveWorld) -> None:
        an_open_page(live_world, **MONTHLY)

        params = sent(live_world, "/v1/checkout/sessions")
        assert params["mode"] == "subscription"
        assert params["subscription_data"] == {"metadata": {"purchase_ref": REF}}
        assert "no subscription" not in params["custom_text"]["submit"]["message"]
        assert "renews" in params["custom_text"]["submit"]["message"]
        assert "terms" in params["custom_text"]["submit"]["message"]
        assert not {"payment_intent_data", "invoice_creation"} & params.keys()

    def test_a_refund_names_payment_amount_reason_and_our_reference(self, live_world: LiveWorld) -> None:
        request = a_refund(live_world, a_paid_page(live_world), amount=2500)

        live_world.payments.refund(request, key="refund-3")

        assert sent(live_world, "/v1/refunds") == {
            "payment_intent": request.intent_id,
            "amount": "2500",
            "reason": "requested_by_customer",
            "metadata": {"refund_ref": "ref_3"},
        }

    def test_a_file_arrives_whole_and_under_its_name(self, live_world: LiveWorld) -> None:
        file_id = live_world.payments.upload_evidence("receipt 17.pdf", PDF, key="upload-5")

        assert sent(live_world, "/v1/files") == {"purpose": "dispute_evidence", "file": ("receipt 17.pdf", PDF)}
        assert live_world.fake.things["file"][file_id]["size"] == len(PDF)

    def test_evidence_is_submitted_with_its_texts_and_files(self, live_world: LiveWorld) -> None:
        dispute_id = live_world.open_dispute(a_paid_page(live_world))
        file_id = live_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")

        live_world.payments.submit_evidence(some_evidence(dispute_id, file_id), key="evidence-5")

        assert sent(live_world, f"/v1/disputes/{dispute_id}") == {
            "evidence": {
                "product_description": "Access to six strategies",
                "customer_name": "Alice",
                "receipt": file_id,
            },
            "metadata": {"evidence_ref": "dis_5"},
            "submit": "true",
        }

    def test_a_subscription_ends_without_a_last_bill(self, live_world: LiveWorld) -> None:
        live_world.payments.cancel_subscription(a_subscription(live_world), key="cancel-9")

        assert live_world.fake.calls[-1].method == "DELETE"
        assert live_world.fake.calls[-1].params == {"invoice_now": "false", "prorate": "false"}

    def test_a_payment_is_looked_up_in_one_call(self, live_world: LiveWorld) -> None:
        session_id = a_paid_page(live_world)
        live_world.refund(session_id, 100)
        live_world.fake.calls.clear()

        live_world.payments.look_up(session_id)

        assert [call.path for call in live_world.fake.calls] == [f"/v1/checkout/sessions/{session_id}"]


class TestPages:
    def test_every_list_is_read_to_its_end(self, live_world: LiveWorld) -> None:
        live_world.fake.page_size = 2
        session_id = a_paid_page(live_world)
        refunds = {live_world.refund(session_id, 100) for _ in range(5)}
        disputes = {live_world.open_dispute(session_id, "won", 100) for _ in range(5)}
        subscription_id = a_subscription(live_world, key="monthly")
        invoices = [live_world.renew(subscription_id) for _ in range(4)]
        for number in range(4):
            live_world.payments.create_customer(ALICE, key=f"another-{number}")
        first, now = intent_of(live_world, session_id), datetime.now(UTC)

        facts = live_world.payments.look_up(session_id)

        assert {refund.id for refund in facts.refunds} == refunds
        assert {dispute.id for dispute in facts.disputes} == disputes
        shown = live_world.payments.look_up_subscription(subscription_id).invoices
        assert [invoice.id for invoice in shown[1:]] == invoices
        around = (now - timedelta(minutes=5), now + timedelta(minutes=5))
        charged = [*live_world.payments.payments_between(*around)]
        assert (charged[-1].intent_id, charged[-1].refunded) == (first, 500)
        assert len([*live_world.payments.events_between(*around)]) == live_world.count("event")
        assert len(live_world.payments.products()[0].prices) == 2
        stranger = live_world.payments.find_customer(ALICE)
        assert stranger is not None

    def test_a_list_that_breaks_off_in_the_middle_says_so(self, live_world: LiveWorld) -> None:
        live_world.fake.page_size = 2
        a_paid_page(live_world)
        now = datetime.now(UTC)
        events = live_world.payments.events_between(now - timedelta(minutes=5), now + timedelta(minutes=5))
        [next(events), next(events)]
        live_world.go_down()

        with pytest.raises(TryLater):
            next(events)


class TestBadDays:
    def test_an_unknown_price_is_refused_by_name_of_the_fault(self, live_world: LiveWorld) -> None:
        with pytest.raises(Refused) as caught:
            an_open_page(live_world, price_id="price_gone")
        assert caught.value.reason == "open_checkout: resource_missing line_items[0][price]"

    @pytest.mark.parametrize(
        "fault",
        [Fault.RATE_LIMITED, Fault.BROKEN, Fault.LOCKED, Fault.KEY_IN_USE, Fault.HTML, Fault.HTML_BUT_OK],
    )
    def test_a_bad_day_is_to_be_tried_later(self, live_world: LiveWorld, fault: Fault) -> None:
        live_world.fake.fail(fault, times=3)
        with pytest.raises(TryLater):
            live_world.payments.create_customer(ALICE, key="customer-7")

    @pytest.mark.parametrize(
        "ask",
        [
            lambda payments: payments.create_customer(ALICE, key="one"),
            lambda payments: payments.update_customer("cus_1", "alice@elsewhere.example"),
            lambda payments: payments.open_checkout(a_request("cus_1"), key="one"),
            lambda payments: payments.open_portal("cus_1", return_url="https://sts.example/dashboard"),
            lambda payments: payments.look_up("cs_test_1"),
            lambda payments: payments.look_up_invoice("in_1"),
            lambda payments: payments.look_up_dispute("dp_1"),
            lambda payments: payments.refund(RefundRequest("ref_3", "pi_1", 100, "duplicate"), key="one"),
            lambda payments: payments.upload_evidence("receipt.pdf", PDF, key="one"),
            lambda payments: payments.submit_evidence(some_evidence("dp_1", "file_1"), key="one"),
        ],
    )
    def test_an_answer_that_says_nothing_is_to_be_tried_later(
        self, live_world: LiveWorld, ask: Callable[[StripePayments], object]
    ) -> None:
        live_world.fake.fail(Fault.EMPTY_BUT_OK)
        with pytest.raises(TryLater, match="the answer"):
            ask(live_world.payments)

    def test_a_subscription_that_may_not_be_ended_is_said_to_stand(self, live_world: LiveWorld) -> None:
        subscription_id = a_subscription(live_world)
        live_world.fake.fail(Fault.REFUSED)

        with pytest.raises(Refused):
            live_world.payments.cancel_subscription(subscription_id, key="cancel-9")

        assert live_world.payments.look_up_subscription(subscription_id).status == "active"

    def test_a_rate_limit_says_how_long(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(Fault.RATE_LIMITED)
        with pytest.raises(TryLater) as caught:
            live_world.payments.look_up("cs_test_1")
        assert caught.value.after == timedelta(seconds=7)

    def test_an_error_that_stripe_keeps_under_the_key_says_so_and_another_key_is_heard(
        self, live_world: LiveWorld
    ) -> None:
        request = a_refund(live_world, a_paid_page(live_world), amount=2500)
        live_world.fake.fail(Fault.BROKEN_UNDER_KEY)
        for _ in range(2):
            with pytest.raises(TryLater) as caught:
                live_world.payments.refund(request, key="refund-3")
            assert caught.value.answered

        assert live_world.payments.refund(request, key="refund-3-2").status == "succeeded"
        assert live_world.count("refund") == 1

    def test_silence_is_to_be_tried_later(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(Fault.SILENT, times=3)
        impatient = StripePayments(
            SecretStr(live_world.fake.secret_key), webhook_secrets=(), api_base=live_world.fake.url, timeout=(0.3, 0.1)
        )
        with pytest.raises(TryLater, match="no answer") as caught:
            impatient.look_up("cs_test_1")
        assert not caught.value.answered
        impatient.close()

    def test_nobody_there_is_to_be_tried_later(self, live_world: LiveWorld) -> None:
        with FakeStripe().running() as gone:
            pass
        payments = StripePayments(SecretStr(gone.secret_key), webhook_secrets=(), api_base=gone.url)
        with pytest.raises(TryLater, match="no answer"):
            payments.look_up("cs_test_1")
        with pytest.raises(TryLater, match="no answer"):
            payments.upload_evidence("receipt.pdf", PDF, key="upload-5")
        payments.close()

    def test_an_answer_lost_on_the_way_is_asked_for_again_under_the_same_key(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(Fault.LOST)

        customer_id = live_world.payments.create_customer(ALICE, key="customer-7")

        assert list(live_world.fake.things["customer"]) == [customer_id]
        assert [(call.key, call.replayed) for call in live_world.fake.calls] == [
            ("customer-7", False),
            ("customer-7", True),
        ]

    def test_no_deed_is_done_twice_whatever_answer_is_lost(self, live_world: LiveWorld) -> None:
        session_id = a_paid_page(live_world)
        dispute_id = live_world.open_dispute(a_paid_page(live_world, key="two"))
        refund = a_refund(live_world, session_id, amount=100)
        live_world.fake.calls.clear()
        for times in (1, 2, 3):
            live_world.fake.fail(Fault.LOST, times=times)
            for key in ("refund-3", "upload-5", "evidence-5"):
                for _ in range(3):
                    try:
                        if key == "refund-3":
                            live_world.payments.refund(refund, key=key)
                        elif key == "upload-5":
                            file_id = live_world.payments.upload_evidence("receipt.pdf", PDF, key=key)
                        else:
                            live_world.payments.submit_evidence(some_evidence(dispute_id, file_id), key=key)
                    except TryLater:
                        continue
                    break

        assert [call.key for call in live_world.fake.deeds] == ["refund-3", "upload-5", "evidence-5"]

    def test_a_refused_key_is_waited_out_because_it_says_nothing_about_the_payment(self, live_world: LiveWorld) -> None:
        for fault in (Fault.UNAUTHORIZED, Fault.FORBIDDEN):
            live_world.fake.fail(fault)
            with pytest.raises(TryLater):
                live_world.payments.look_up("cs_test_1")

    def test_no_key_is_in_any_error_or_log_line(self, live_world: LiveWorld) -> None:
        wrong = StripePayments(SecretStr("sk_test_WrongKey"), webhook_secrets=SECRETS, api_base=live_world.fake.url)
        heard: list[str] = [repr(wrong)]
        with structlog.testing.capture_logs() as lines:
            for fault in [None, *Fault]:
                if fault in (Fault.SILENT, Fault.BROKEN_UNDER_KEY):
                    continue
                if fault is not None:
                    live_world.fake.fail(fault, times=3)
                for payments in (wrong, live_world.payments):
                    with pytest.raises(PaymentsError) as caught:
                        payments.look_up("cs_test_1")
                    assert caught.value.__suppress_context__ or caught.value.__context__ is None
                    heard += [str(caught.value), repr(caught.value), caught.value.reason]
                live_world.fake.heal()
            with pytest.raises(BadSignature) as refused:
                wrong.read_event(b"{}", "t=1,v1=00")
        heard += [str(refused.value), *map(str, lines)]
        wrong.close()

        for secret in (live_world.fake.secret_key, "sk_test_WrongKey", *SECRETS):
            assert not [text for text in heard if secret in text]

    def test_every_call_leaves_one_line_with_what_support_will_ask_for(self, live_world: LiveWorld) -> None:
        with structlog.testing.capture_logs() as lines:
            live_world.payments.create_customer(ALICE, key="customer-7")
            with pytest.raises(Refused):
                live_world.payments.look_up("cs_test_unknown")

        made, refused = lines
        assert (made["event"], made["op"], made["outcome"]) == ("stripe.call", "create_customer", "answered")
        assert (refused["op"], refused["outcome"], refused["status"]) == ("look_up", "refused", 404)
        for line in lines:
            assert line["stripe_request"].startswith("req_")
            assert line["ms"] >= 0
        assert "alice" not in str(lines).lower()
