// Measures pages with Lighthouse: `node measure.mjs http://127.0.0.1:5000 / /pricing`. CHROME_PATH names the browser,
// REPORTS the folder for the reports of the median rounds, ROUNDS how often each page is measured (3).
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "chrome-launcher";
import lighthouse, { generateReport } from "lighthouse";
import { computeMedianRun } from "lighthouse/core/lib/median-run.js";

const LEAST = { performance: 98, accessibility: 100, "best-practices": 100, seo: 100 };
const MOST_BYTES = 60_000;
const MOST_REQUESTS = 10;
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"];

const [home, ...paths] = process.argv.slice(2);
const faults = [];

async function measured(address, port) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    // The preset for phones and simulated throttling are Lighthouse's own defaults; here they are a promise.
    const found = await lighthouse(address, {
      port,
      logLevel: "error",
      formFactor: "mobile",
      throttlingMethod: "simulate",
      onlyCategories: Object.keys(LEAST),
    });
    if (found.lhr.runtimeError) throw new Error(`${address}: ${found.lhr.runtimeError.message}`);
    rounds.push(found.lhr);
  }
  return computeMedianRun(rounds);
}

function judge(path, lhr) {
  const scores = Object.keys(LEAST).map((name) => [name, Math.round(lhr.categories[name].score * 100)]);
  const requests = lhr.audits["network-requests"].details.items;
  const bytes = requests.reduce((sum, one) => sum + one.transferSize, 0);
  const others = requests.filter((one) => !one.url.startsWith(home) && !one.url.startsWith("data:"));
  const jumped = Number(lhr.audits["cumulative-layout-shift"].numericValue.toFixed(3));
  const told = [
    ...scores.filter(([name, score]) => score < LEAST[name]).map(([name, score]) => `${name} ${score}`),
    ...(path === "/" && bytes > MOST_BYTES ? [`${bytes} bytes`] : []),
    ...(path === "/" && requests.length > MOST_REQUESTS ? [`${requests.length} requests`] : []),
    ...(jumped > 0 ? [`layout shift ${jumped}`] : []),
    ...others.map((one) => `asks ${one.url}`),
  ];
  const lcp = Math.round(lhr.audits["largest-contentful-paint"].numericValue);
  const figures = scores.map(([, score]) => String(score).padStart(4)).join("");
  console.log(`${path.padEnd(36)}${figures}   ${String(bytes).padStart(7)} bytes ${requests.length} requests  LCP ${lcp} ms`);
  for (const one of told) console.log(`    below the promise: ${one}`);
  if (told.length > 0) sayWhy(lhr);
  faults.push(...told.map((one) => `${path}: ${one}`));
}

function sayWhy(lhr) {
  for (const name of Object.keys(LEAST)) {
    for (const { id, weight } of lhr.categories[name].auditRefs) {
      const audit = lhr.audits[id];
      if (weight > 0 && audit.score !== null && audit.score < 0.9) {
        const nodes = (audit.details?.items ?? []).map((one) => one.node?.snippet ?? one.description ?? "").filter(Boolean);
        console.log(`      ${id}: ${audit.title} ${audit.displayValue ?? ""} ${nodes.slice(0, 2).join(" ")}`);
      }
    }
  }
}

const chrome = await launch({ chromeFlags: FLAGS });
try {
  console.log(`${"".padEnd(36)}perf a11y best  seo`);
  for (const path of paths) {
    const lhr = await measured(home + path, chrome.port);
    const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "home";
    writeFileSync(join(process.env.REPORTS, `${name}.html`), generateReport(lhr, "html"));
    judge(path, lhr);
  }
} finally {
  chrome.kill();
}
console.log(faults.length === 0 ? `${paths.length} pages keep the promise.` : `${faults.length} below the promise.`);
process.exitCode = faults.length === 0 ? 0 : 1;
