// Moments in the visitor's own time zone. The page has them in UTC.
const shape = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const format = new Intl.DateTimeFormat("sv-SE", shape);

export function localise(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    one.title = `${one.dateTime.slice(0, 19).replace("T", " ")} UTC`;
    one.textContent = format.format(moment);
  }
}
