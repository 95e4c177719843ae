"""The search for the best last state: candidates judged by validation reviews alone, most of them on one seed."""

from collections.abc import Sequence

from experiments.common import search

FALLING = ("optimizer.learning_rate=0.002", "optimizer.schedule=linear", "trainer.max_epochs=4")
EACH_WORD = (*FALLING, "optimizer.target_replication=0.5")
MASK = ("model.mask_padding=true",)
DROPOUT = ("model.embedding_dropout=0.3",)
BASE = (*EACH_WORD, *DROPOUT)
ADAM = (*BASE, "optimizer=adam", "optimizer.fused=true", "optimizer.learning_rate=0.003")
# what each candidate changes of search.yaml, in the order in which they were tried; rep: loss after each word
CANDIDATES: dict[str, Sequence[str]] = {
    "lecture": (),
    "falling": FALLING,
    "falling, rep 0.5, mask, embed 0.3": (*BASE, *MASK),
    "falling, rep 0.5, embed 0.3": (*BASE, "seed=0,1"),
    "falling, rep 0.5, mask, embed 0.5, words 0.1": (
        *(*EACH_WORD, *MASK, "trainer.max_epochs=5"),
        *("model.embedding_dropout=0.5", "model.word_dropout=0.1"),
    ),
    "falling, rep 0.5, embed 0.3, 64 embedding": (*BASE, "model.embedding_dim=64"),
    "falling, rep 0.8, embed 0.3": (*FALLING, *DROPOUT, "optimizer.target_replication=0.8"),
    "falling, rep 0.5, embed 0.3, adam 0.003": ADAM,
    "falling, rep 0.5, embed 0.3, adam 0.003, clip": (*ADAM, "trainer.gradient_clip_val=1.0"),
    "falling, rep 0.5, embed 0.3, clip": (*BASE, "trainer.gradient_clip_val=0.5"),
    "falling, rep 0.5, embed 0.3, words 0.1": (*BASE, "model.word_dropout=0.1"),
    "falling, rep 0.5, embed 0.3, batches of 64": (*BASE, "data.batch_size=64"),
    "falling, rep 0.5, embed 0.3, averaged": (*BASE, "callbacks=averaged"),
    "falling over 6, rep 0.5, embed 0.3, words 0.1": (*BASE, "model.word_dropout=0.1", "trainer.max_epochs=6"),
    "falling from 0.001 over 5, rep 0.5, embed 0.3": (*BASE, "optimizer.learning_rate=0.001", "trainer.max_epochs=5"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    search(__file__, __doc__, CANDIDATES, ("seeds", "validation %", "validation loss", "minutes a seed"), arguments)


if __name__ == "__main__":
    main()
