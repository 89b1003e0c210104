// Section 10 of spec/scheme.md: the family agent.

import { concat, equal, Reader, require, u64, u8 } from './encoding.mjs';
import { decode_G2, e, enc_G1, enc_G2 } from './groups.mjs';
import { SHA } from './hashes.mjs';
import { BLS, verify_BLS } from './sealing.mjs';
import { decode_container, open_section } from './containers.mjs';

/** E34. Appointment id = SHA-256(in(WITHDRAWAL-ID, withdrawal key)). */
export const appointment_id = (consortium, withdrawal_key) => SHA(consortium, 'WITHDRAWAL-ID', withdrawal_key);

/** E34. All bytes before the signature. */
export const appointment_text = ({ E, consortium, agent, id, end, classes }) =>
  concat(enc_G2(E), consortium, agent, id, u64(end), u8(classes.length), ...classes.map(u8));

/** E34. The scope names at least one class, and its codes strictly ascend. */
function check_scope(classes) {
  require(classes.length >= 1, 'invalid', 'an appointment for no class');
  for (let k = 1; k < classes.length; k++) {
    require(classes[k - 1] !== classes[k], 'repeated', 'a class stands twice');
    require(classes[k - 1] < classes[k], 'invalid', 'classes do not ascend');
  }
}

/** E34. `secret` is e = o + Hs_PID(PID). */
export function appoint(consortium, secret, appointment) {
  check_scope(appointment.classes);
  const text = appointment_text({ ...appointment, consortium });
  return concat(text, enc_G1(BLS(consortium, 'DELEGATION', secret, enc_G2(appointment.E), text)));
}

/** E34. */
export function decode_appointment(bytes) {
  const reader = new Reader(bytes);
  const appointment = {
    E: decode_G2(reader.take(96, 'E')),
    consortium: reader.take(32, 'the consortium'),
    agent: reader.take(32, 'the agent\'s key'),
    id: reader.take(32, 'the appointment id'),
    end: reader.u64('the end'),
  };
  const count = reader.count(1, 32, 'the number of classes');
  appointment.classes = Array.from({ length: count }, () => reader.u8('a class'));
  check_scope(appointment.classes);
  appointment.text = bytes.slice(0, reader.at);
  appointment.signature = reader.take(48, 'the signature');
  reader.end();
  return appointment;
}

/** E34. The appointment of this consortium that E itself signed. */
export function verify_appointment(consortium, bytes) {
  const appointment = decode_appointment(bytes);
  require(equal(appointment.consortium, consortium), 'foreign-grant', 'the appointment is of another consortium');
  verify_BLS(
    consortium, 'DELEGATION', appointment.E, appointment.signature, enc_G2(appointment.E), appointment.text,
  );
  return appointment;
}

/** The agent opens with K = e(H1_COND(PID, class)^a, U); `condition_a` is that first point. */
export function open_by_agent(consortium, container, label, condition_a) {
  const { header } = decode_container(consortium, container);
  return open_section(consortium, container, label, e(condition_a, header.U));
}
