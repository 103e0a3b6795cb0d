// The button that leads to the payment page is pressed once. Two presses find the same page without this, too; with it
// nobody wonders whether the first one counted.
(() => {
  const form = document.querySelector("form[data-paying]");
  const said = document.getElementById("paying");
  if (!form || !said) return;
  const button = form.querySelector("button");
  let pressed = false;

  function rest() {
    pressed = false;
    button.removeAttribute("aria-disabled");
    said.textContent = "";
  }

  form.addEventListener("submit", (event) => {
    if (pressed) {
      event.preventDefault();
      return;
    }
    pressed = true;
    button.setAttribute("aria-disabled", "true");
    said.textContent = form.dataset.paying;
    // A page that does not come is no reason to shut the door for good.
    setTimeout(rest, 20000);
  });

  // Back from the payment page the browser may show this one as it was left.
  addEventListener("pageshow", (event) => event.persisted && rest());
})();
