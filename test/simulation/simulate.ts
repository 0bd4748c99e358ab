import type { InstanceReport } from '@torpor/contracts';
import { Client } from './client.ts';
import { Ledger } from './ledger.ts';
import { lookInTheEnd, lookNow, WakeWatch } from './promises.ts';
import type { Story } from './story.ts';
import { World, type Box } from './world.ts';

const LOOK_MS = 250;
const BAD_DAYS_MS = 150_000;
/** More than a stuck creation needs to be found, its restart to be tried, and a lease to be renewed. */
const GOOD_DAYS_MS = 260_000;

/** Plays one seed: bad days, then good ones in which everything must come right. The story tells what promises were broken. */
export async function simulate(seed: number): Promise<Story> {
  const world = new World(seed);
  const ledger = new Ledger();
  await world.open();
  const clients = ['u', 'v', 'w', 'x', 'y', 'z'].map((name) => new Client(world, ledger, name));
  const lives = clients.map((client) => client.live());
  const watches = world.boxes.map((box) => {
    const watch = new WakeWatch(world, box);
    box.agent.onDeath = () => watch.agentDied();
    return watch;
  });
  const pass = async (ms: number, each: () => void) => {
    for (let passed = 0; passed < ms; passed += LOOK_MS) {
      each();
      await world.clock.advance(LOOK_MS);
      await lookNow(world);
      for (const watch of watches) watch.look();
    }
  };
  await pass(BAD_DAYS_MS, () => mischief(world, ledger));
  for (const client of clients) client.stop();
  world.trouble.end();
  world.story.tell('world', 'all troubles are over');
  await pass(GOOD_DAYS_MS, () => {});
  await world.clock.until(Promise.all(lives));
  await lookInTheEnd(world, ledger);
  return world.story;
}

/** Now and then something is cut off for a while, or killed, or dies. */
function mischief(world: World, ledger: Ledger): void {
  const { chance, trouble } = world;
  const dice = chance.fraction();
  const rooms = world.rooms();
  const room = rooms[Math.floor(chance.fraction() * rooms.length)];
  if (!room) return;
  if (dice < 0.006) room.kill('from outside', chance.fraction() * 5_000);
  else if (dice < 0.012 && !trouble.cutOff.has(room.name)) {
    void cutOff(world, room.name, chance.fraction() * 45_000);
  } else if (dice < 0.013) killInstance(world, ledger);
  else if (dice < 0.0134) reboot(world, ledger);
}

async function cutOff({ trouble, story, clock }: World, name: string, forMs: number): Promise<void> {
  story.tell(name, `is cut off for ${Math.round(forMs)} ms`);
  trouble.cutOff.add(name);
  await clock.after(forMs);
  if (trouble.cutOff.delete(name)) story.tell(name, 'can be reached again');
}

/** A sandbox's process dies by the host's fault. What was in its RAM cannot come back; what matters is that it is told. */
function killInstance({ boxes, story, chance, clock }: World, ledger: Ledger): void {
  const reports = boxes.flatMap((box) =>
    (box.agent.living?.standby.reports() ?? []).map((report) => ({ box, report })),
  );
  const victim = reports[Math.floor(chance.fraction() * reports.length)];
  if (!victim?.report.hostId) return;
  const { instanceId, name, hostId } = victim.report;
  story.tell(`host ${victim.box.id}`, `kills ${instanceId} of "${name}"`);
  loses(victim.box, ledger, victim.report, clock.nowMs());
  victim.box.host.kill(hostId);
}

/** A host loses power: what ran is gone, what was stored is not, and of the journal only what was durable is left. */
function reboot({ boxes, story, chance, clock }: World, ledger: Ledger): void {
  const box = boxes[Math.floor(chance.fraction() * boxes.length)];
  if (!box?.agent.living) return;
  story.tell(`host ${box.id}`, 'loses power');
  for (const report of box.agent.living.standby.reports()) loses(box, ledger, report, clock.nowMs());
  box.agent.kill('by the power cut', chance.fraction() * 5_000);
  box.host.reboot();
  box.journal.crash();
}

function loses(
  box: Box,
  ledger: Ledger,
  { name, instanceId, generation, hostId }: InstanceReport,
  nowMs: number,
): void {
  if (!hostId || !box.host.sandboxes.has(hostId)) return;
  ledger.begins({ name, what: 'host fault', fromMs: nowMs });
  ledger.lostRam(`${instanceId}/${generation}`, nowMs);
}
