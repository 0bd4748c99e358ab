/**
 * The address of the instance in a slot: the node's /16 is cut into /30s, of which .1 is the host's end and .2 the instance's
 * (packages/hostd/PROTOCOL.md, "Names").
 */
export function instanceAddress(subnet: string, slot: number): string {
  return addressIn(subnet, slot, 2);
}

/** The host's end of the same pair: the instance's gateway, and its name server. */
export function hostAddress(subnet: string, slot: number): string {
  return addressIn(subnet, slot, 1);
}

/** Whether an IPv4 address is one of the node's instances', or of the host's ends of theirs. */
export function isAddressIn(subnet: string, address: string): boolean {
  return address.startsWith(`${prefixOf(subnet)}.`);
}

function addressIn(subnet: string, slot: number, place: 1 | 2): string {
  const prefix = prefixOf(subnet);
  if (!Number.isInteger(slot) || slot < 0 || slot > 16_383) throw new Error(`the slot ${slot} lies outside 0 … 16383`);
  const offset = slot * 4 + place;
  return `${prefix}.${offset >> 8}.${offset & 255}`;
}

/** `10.83` of `10.83.0.0/16`. */
function prefixOf(subnet: string): string {
  const match = /^(\d+\.\d+)\.0\.0\/16$/.exec(subnet);
  if (!match?.[1]) throw new Error(`the subnet "${subnet}" is no /16 such as 10.83.0.0/16`);
  return match[1];
}
