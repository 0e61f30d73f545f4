/** The token of this tab, and the form that asks for it. */

const KEY = "featcodec.token";
const ALLOWED = /^[A-Za-z0-9._~-]{1,200}$/;

const form = document.getElementById("token-form");
const field = document.getElementById("token");
const error = document.getElementById("token-error");
const forget = document.getElementById("forget");

/** The token, or null. */
export const token = () => sessionStorage.getItem(KEY);

/** Headers for a request to the server. */
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** Subprotocols for a WebSocket: browsers cannot set headers there, and an address is not a place for a secret. */
export const subprotocols = () => ["featcodec", ...(token() ? [`featcodec.token.${token()}`] : [])];

/** Whether the form is open. */
export const isAsking = () => !form.hidden;

/** Open the form, because the server refused. */
export function askForToken() {
  const had = token() !== null;
  sessionStorage.removeItem(KEY);
  forget.hidden = true;
  error.textContent = had ? "The server does not know this token. Check it, and try again." : "";
  form.classList.toggle("wrong", had);
  field.setAttribute("aria-invalid", String(had));
  if (form.hidden || had) {
    form.hidden = false;
    field.focus();
    field.select();
  }
}

/** The server took the token, or needs none. */
export function closeForm(needed) {
  const focused = form.contains(document.activeElement);
  form.hidden = true;
  field.value = "";
  error.textContent = "";
  forget.hidden = !(needed && token());
  if (focused) document.getElementById("main").focus({ preventScroll: true });
}

/** Call `again` when there is another token, or none any more. */
export function onToken(again) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = field.value.trim();
    if (!ALLOWED.test(given)) {
      error.textContent = "A token has 1 to 200 letters, digits and the signs . _ ~ -";
      field.setAttribute("aria-invalid", "true");
      field.focus();
      return;
    }
    sessionStorage.setItem(KEY, given);
    again();
  });
  forget.addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    forget.hidden = true;
    again();
  });
}
