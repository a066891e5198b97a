extension BuiltinText {
  /// Prose of several registers: encyclopaedic, news, story, instructions, science, letters.
  static let heldOutEnglish = #"""
    Salt marshes form where rivers bring more mud to a sheltered coast than the waves can take \#
    away. The first plant to settle is usually a fleshy annual that stands being drowned twice a \#
    day; its stems slow the water, the water drops its load, and the ground rises by a few \#
    millimetres a year. With each millimetre the tide covers the surface for a shorter time, and \#
    plants that tolerate less salt move in. A person walking inland from the edge therefore \#
    crosses, within two hundred paces, what took the marsh a thousand years, and can read the \#
    order of events from the colour of the leaves. Creeks wind through all of it. They look like \#
    the branches of a river drawn backwards, since they carry water in both directions and are \#
    cut mostly by the ebb.

    The bridge at Tarn Hollow will be closed to lorries from next month, the county engineer \#
    said yesterday, after divers found that the current had scoured a hole beneath its middle \#
    pier. Cars may still cross at walking pace. The hole, about the size of a delivery van, was \#
    discovered by accident: a diver was looking for a wedding ring that a visitor had dropped \#
    from the parapet in June. He found both. Repairs will take until November and will cost \#
    rather more than the bridge did when it was built, though the engineer pointed out that in \#
    those days the stone came from a field nearby and the masons were paid partly in cider.

    On the morning of the auction Teodora walked through the rooms once more, not touching \#
    anything. Numbers had been tied to the chairs. Number 88 was the one her uncle used to fall \#
    asleep in after lunch, with a handkerchief over his eyes; it had a burn on the left arm the \#
    shape of Ireland, and the catalogue called it "a chair, worn". In the pantry the shelves \#
    were already bare, and where jars had stood for sixty years there were sixty pale circles in \#
    the paint. She tried to remember what had been in the third from the left and could not, and \#
    this, of all things, was what made her sit down on the floor.

    "You can still call it off," said the lawyer from the doorway. He was a kind man who had \#
    learned to stand where people did not have to look at him. She shook her head. "I only \#
    wanted to hear how quiet it was," she said. Then the first van turned in at the gate, its \#
    tyres loud on the gravel, and the quiet was over and could not be bid for.

    We compared two methods of drying seaweed for winter feed. In the first, fronds were spread \#
    on nets in an open barn; in the second, they passed on a belt through air at 45 °C for \#
    ninety minutes. Barn drying took between five and eleven days and lost a third of the batch \#
    to mould in the one wet week of the trial. The belt lost nothing, but used 1.9 kWh per \#
    kilogram of water removed. Sheep offered both kinds side by side preferred the barn-dried \#
    fodder by a margin of two to one, and gained weight at the same rate on either. We conclude \#
    that the belt is worth its energy only where autumn rain is likely, and that sheep should \#
    perhaps be asked earlier in such studies.

    To repot an orchid, wait until it has finished flowering. Slide the plant from its pot and \#
    shake off the old bark; roots that are brown and hollow can be cut away with clean scissors, \#
    while firm silver ones must be left alone. Choose a pot just one finger wider than the \#
    roots. Fill the gaps with fresh bark, pressing gently with a stick, and do not water for \#
    five days, so that small wounds may close. After that, water once a week by standing the \#
    whole pot in a bowl for a quarter of an hour. If the leaves wrinkle, it is thirsty; if the \#
    lowest leaf turns yellow, it is merely old.

    A musical interval is a ratio before it is a sound. Stop a string at its middle and it sings \#
    an octave higher, two to one; stop it at two thirds of its length and it gives the fifth, \#
    three to two. Stack twelve such fifths and you arrive close to seven octaves, yet not quite: \#
    the twelve fifths overshoot by about a quarter of a semitone. No tuning can hide that \#
    difference; it can only decide where to put it. Some put all of it into one interval that \#
    nobody is allowed to play. Ours spreads it thinly over every fifth, so that each key is \#
    slightly and equally wrong, and we have grown up calling the result in tune.

    Dear Tomas, the roof is on. I write it first because you will look for it first. The tiles \#
    from your cousin's barn were enough after all, with eleven left over, which I have stacked \#
    behind the woodshed for the day a branch comes down. Ana fell off the ladder, but only from \#
    the second rung and mostly out of surprise. The well is clear again; it was a root, as you \#
    said. We miss you at table, where there is now room for elbows, and in the evenings, when \#
    nobody can remember the third verse. Come before the snow if they let you. Bring coffee. \#
    Your loving aunt, Brunhilde

    A lock on a canal is a box with a door at each end and no pump anywhere. To lift a boat, the \#
    keeper closes the lower doors behind it and opens a hatch in the upper ones; water runs in \#
    from above until the level inside is the level outside, and only then can the upper doors be \#
    swung, since until that moment the weight of the canal holds them shut. The doors meet at a \#
    blunt angle that points upstream, so that the harder the water presses, the more tightly \#
    they close. Every passage spends one boxful of water, which flows down to the next lock and \#
    the next, and the art of planning a canal lies in finding enough of it for the summit.

    What does a referee see? In a study of amateur handball, cameras followed the eyes of \#
    fourteen referees through whole matches. Experienced ones looked at the ball less often than \#
    beginners did (31 % of the time against 52 %), and more at empty floor, which puzzled the \#
    authors until they noted where players arrived a second later. Asked about it, none of the \#
    referees could describe the habit, and two denied having it. Whether it can be taught is \#
    unknown. A small group of beginners who were told to watch the spaces improved their \#
    decisions slightly, but so did a group that was told nothing and given better shoes.

    The night porter of the Hotel Meridian kept two lists. On one he wrote what guests asked for \#
    after midnight: aspirin, a taxi, a priest, a second pillow, the score. On the other he wrote \#
    what they gave as the reason, and this was the longer. A man in 412 had wanted an iron at \#
    three in the morning because, he said, he was going to be forgiven at nine and meant to look \#
    like it. The porter found the iron. At half past eight he watched the man cross the lobby in \#
    a shirt as smooth as an envelope, and he added nothing to either list, but he did turn to \#
    the window to see which way he went.

    Advice for new members of the allotment. The tap at the end of row C must be turned off with \#
    the spanner, not by hand. Compost goes in the left bay until it is full, then in the right; \#
    nobody but Mr Farouk may turn it, and you will understand why if you ever see him do it. \#
    Beans may be taken from any plot whose owner has put out a red flag. Marrows may be left on \#
    any doorstep in the village, but only after dark. The water butts belong to everyone, the \#
    wheelbarrow with the blue handles to no one, and the robin to the robin.

    Shares in the toy maker Pellworth rose by a tenth on Wednesday after it reported its first \#
    profit in five years, helped by a wooden puzzle that had been in its catalogue since 1983. \#
    Sales of the puzzle, a cube of twelve interlocking rods, went from four thousand a year to \#
    three hundred thousand after a film star was seen failing to solve it on a flight. The firm \#
    has hired back nineteen carpenters. "We would love to claim that this was strategy," the \#
    managing director told investors, "but we had forgotten we still made it."

    """#
}
