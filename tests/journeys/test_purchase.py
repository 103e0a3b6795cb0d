"""What a buyer does and sees, told through HTTP and the simulated vendors."""

from __future__ import annotations

import re
from collections import Counter

from sts_app.ops.journey import Visitor
from tests.faults.shop import LETTERS, STAFF


def assert_delivered(shop, buyer, *, besides=()):
    """One purchase, six verified grants at the vendor itself, each letter exactly once: among other buyers."""
    shop.world.eventually(lambda: list(buyer.access().values()) == ["Active"] * 6, timeout=30)
    shop.world.eventually(lambda: buyer.letter("access_granted"))
    assert shop.status_of(buyer) == ["COMPLETED"]
    assert shop.standing(buyer) == 1
    assert shop.held(buyer) == shop.scripts()
    assert shop.letters(buyer.email) == Counter([*LETTERS, *besides])


def checkouts_of(shop, buyer):
    state = Visitor(shop.world.url).json("/dev/stripe/state.json")
    return [one for one in state["checkouts"] if one["customer_email"] == buyer.email]


def letter_to(buyer):
    return buyer.wait_for(lambda: buyer.letter("sign_in"), "the sign-in letter", seconds=30)["text"]


def test_a_stranger_buys_and_has_access_without_anybody_doing_anything(shop):
    buyer = shop.visitor("alice")
    buyer.browse()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    buyer.check_out()

    buyer.pay()

    # Five seconds are promised until the buyer sees a state of access.
    shop.world.eventually(lambda: len(buyer.access()) == 6, timeout=5)
    assert set(buyer.access().values()) <= {"Pending", "Active"}
    assert_delivered(shop, buyer)
    [checkout] = checkouts_of(shop, buyer)
    assert (checkout["payment"], checkout["amount_total"], checkout["currency"]) == ("paid", 9900, "usd")
    sold = [letter for letter in buyer.letters(STAFF) if buyer.email in letter["text"]]
    assert [letter["kind"] for letter in sold] == ["admin_new_purchase"]
    assert "$99.00" in buyer.letter("purchase_confirmation")["text"]


def test_an_owner_is_told_so_and_not_charged_again(shop):
    buyer = shop.visitor("olivia")
    buyer.buy()
    assert_delivered(shop, buyer)

    assert "You own this" in buyer.open("/pricing").text
    assert "You own this" in buyer.open("/strategies/nq-power-hour").text
    buyer.open("/checkout")

    assert buyer.path.startswith("/dashboard")
    assert "have this already" in buyer.text
    assert len(checkouts_of(shop, buyer)) == 1
    assert_delivered(shop, buyer)


def test_signing_in_by_the_code_of_a_letter_read_on_another_device(shop):
    buyer = shop.visitor("carol")
    buyer.ask_for_access()
    buyer.submit("/sign-in", email=buyer.email)
    text = letter_to(buyer)
    code = re.search(r"\b(\d{6})\b", text).group(1)
    link = re.search(r"https?://\S+/sign-in/link/\S+", text).group(0)
    phone = Visitor(shop.world.url)

    # The phone, or a mail scanner, opens the link: that alone signs nobody in and uses nothing up.
    phone.open(link)
    assert "Continue" in phone.text
    assert phone.open("/dashboard").path.startswith("/sign-in")
    wrong = "000000" if code != "000000" else "111111"
    buyer.submit("/sign-in/code", well=False, code=wrong)
    assert buyer.answer.status_code == 422
    buyer.open("/sign-in/sent").submit("/sign-in/code", code=code)

    assert buyer.path.startswith("/onboarding")
    phone.answer = phone.http.get(link, timeout=30)
    assert phone.answer.status_code == 410
    buyer.onboard()
    assert buyer.path == "/checkout"


def test_the_link_signs_another_device_in_once_continue_is_pressed(shop):
    buyer = shop.visitor("dave")
    buyer.ask_for_access()
    buyer.submit("/sign-in", email=buyer.email)
    link = re.search(r"https?://\S+/sign-in/link/\S+", letter_to(buyer)).group(0)
    phone = Visitor(shop.world.url).open(link)

    phone.submit("/sign-in/link/")

    assert phone.path.startswith("/onboarding")
    assert buyer.open("/dashboard").path.startswith("/sign-in")


def test_a_second_click_on_pay_leads_to_the_same_page(shop):
    buyer = shop.visitor("erin").reach_payment()
    first = buyer.path

    buyer.open("/checkout").submit("/checkout")

    assert buyer.path == first
    assert len(checkouts_of(shop, buyer)) == 1
    assert shop.status_of(buyer) == ["PENDING"]


def test_closing_the_page_and_coming_back_leads_to_the_same_page(shop):
    buyer = shop.visitor("frank").reach_payment()
    first = buyer.path

    buyer.submit("/close")
    assert buyer.path == "/pricing?canceled=true"
    assert shop.status_of(buyer) == ["PENDING"]
    buyer.submit("/checkout")

    assert buyer.path == first
    assert len(checkouts_of(shop, buyer)) == 1
    buyer.pay()
    assert_delivered(shop, buyer)


def test_a_declined_card_and_then_one_that_pays(shop):
    buyer = shop.visitor("grace").reach_payment()
    page = buyer.path

    buyer.submit("/decline", well=False)
    assert buyer.answer.status_code == 402
    assert "declined" in buyer.text
    shop.world.eventually(lambda: "The bank declined the last try" in buyer.open("/dashboard").text)
    assert shop.status_of(buyer) == ["PENDING"]
    assert shop.standing(buyer) == 0
    assert shop.held(buyer) == []

    buyer.open("/checkout").submit("/checkout")
    assert buyer.path == page
    buyer.pay()
    assert_delivered(shop, buyer, besides=["payment_failed"])
    assert "declined" not in buyer.open("/dashboard").text
