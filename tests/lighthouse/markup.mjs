// Checks markup against the standard: a list of {name, html} as JSON comes in, one line for each fault goes out.
import { readFileSync } from "node:fs";
import { HtmlValidate } from "html-validate";

const checker = new HtmlValidate({
  extends: ["html-validate:standard"],
  rules: {
    // htmx 4 inherits nothing but by `hx-...:inherited`, a name that the standard does not know.
    "attribute-misuse": "error",
  },
});
for (const { name, html } of JSON.parse(readFileSync(0, "utf8"))) {
  const report = await checker.validateString(html, name);
  for (const { messages, filePath } of report.results) {
    for (const { line, ruleId, message } of messages) console.log(`${filePath}:${line} ${ruleId}: ${message}`);
  }
}
