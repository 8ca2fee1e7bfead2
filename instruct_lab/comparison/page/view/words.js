/* Differences of words between two texts. */
const MAX_WORDS = 500; // longer texts are compared only by their beginnings and ends
const MIN_COMMON = 0.25; // with a smaller share of common words, nothing is marked, because nearly all would be
const WORD = /[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu;

/** The parts of each text as [text, differs], by the longest common subsequence of words. */
function wordDifference(first, second) {
  const [a, b] = [first.match(WORD) ?? [], second.match(WORD) ?? []];
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const [kept, other] = commonWords(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const whole = (words, common) => joinParts([...words.slice(0, start).map((word) => [word, false]),
    ...words.slice(start, words.length - end).map((word, index) => [word, !common.has(index)]), ...(end ? words.slice(-end) : []).map((word) => [word, false])]);
  const isWord = (word) => !/^\s+$/.test(word), count = (words) => words.filter(isWord).length;
  const numCommon = count(a.slice(0, start)) + count(end ? a.slice(-end) : []) + [...kept].filter((index) => isWord(a[start + index])).length;
  if (numCommon === 0 || numCommon < MIN_COMMON * Math.min(count(a), count(b))) return [[[first, false]], [[second, false]]];
  return [whole(a, kept), whole(b, other)];
}

/** The indices of the words that are in a longest common subsequence, in each list. */
function commonWords(a, b) {
  const kept = new Set(), other = new Set(), width = b.length + 1;
  if (a.length > MAX_WORDS || b.length > MAX_WORDS) return [kept, other];
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? lengths[(i + 1) * width + j + 1] + 1 : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      kept.add(i);
      other.add(j);
      i += 1;
      j += 1;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return [kept, other];
}

/** Join neighbouring parts that are marked alike; white space between two marked words is marked too. */
function joinParts(parts) {
  const joined = [];
  parts.forEach(([text, differs], index) => {
    const isGap = /^\s+$/.test(text) && parts[index - 1]?.[1] && parts[index + 1]?.[1];
    const marked = differs || isGap, last = joined[joined.length - 1];
    if (last && last[1] === marked) last[0] += text;
    else joined.push([text, marked]);
  });
  return joined;
}
